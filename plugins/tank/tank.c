/* tank: controls the level of a tank to a setpoint with the inflow valve.
 *
 * Input: the point `tank.level` (% full). Output: the point `tank.inflow` (% open). Setpoint: the
 * variable `tank.setpoint` (% full); if it does not exist, it is created with DEFAULT_SETPOINT.
 * The program is a PI controller with anti-windup at both ends of the valve. While the level is
 * bad, the valve is closed. The program logs changes of its state, not every cycle.
 */
#include "../sdk/camshaft.h"

/* The default setpoint in %: far from empty and full, so the demo visibly controls the level. */
static const double DEFAULT_SETPOINT = 60.0;

/* Proportional gain in valve % per level %: an error of 25 % opens the valve fully. */
static const double GAIN = 4.0;

/* Integral gain in valve % per level % and second: integral time 16 s, slower than a tank fills. */
static const double INTEGRAL_GAIN = 0.25;

/* The longest time between two polls that the integral uses, in seconds. After a longer pause this
 * program does not know what the level did in the meantime. */
static const double LONGEST_STEP = 1.0;

/* First byte of the saved state. Increase it when the layout of the state changes. */
static const uint8_t STATE_VERSION = 1;

/* The reason for the valve position. Each poll decides again: any state may follow any state.
 *
 *                      .-> NO_POINT     a point was not found                     valve closed
 *   STARTING --poll----+-> NO_LEVEL     the level is bad or not readable          valve closed
 *                      +-> REFUSED      the host refuses to move the valve
 *                      '-> CONTROLLING  level and valve are available             valve as computed
 */
enum state { STARTING, NO_POINT, NO_LEVEL, REFUSED, CONTROLLING };

static enum state state = STARTING;
static uint32_t level_point = CAMSHAFT_NO_POINT;
static uint32_t inflow_point = CAMSHAFT_NO_POINT;
static double integral;     /* valve %, 0 to 100 */
static bool has_polled;     /* whether last_poll is valid */
static uint64_t last_poll;  /* ns */
static bool has_setpoint_complaint;

static double clamp(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

static bool find_points(void) {
    if (level_point == CAMSHAFT_NO_POINT) level_point = CAMSHAFT_POINT("tank.level");
    if (inflow_point == CAMSHAFT_NO_POINT) inflow_point = CAMSHAFT_POINT("tank.inflow");
    return level_point != CAMSHAFT_NO_POINT && inflow_point != CAMSHAFT_NO_POINT;
}

/* Changes the state, and logs one line if the new state differs. */
static void enter(enum state next) {
    if (next == state) return;
    state = next;
    switch (next) {
    case NO_POINT:
        if (level_point == CAMSHAFT_NO_POINT)
            CAMSHAFT_LOG_ERROR("no point tank.level: not configured, or not granted");
        if (inflow_point == CAMSHAFT_NO_POINT)
            CAMSHAFT_LOG_ERROR("no point tank.inflow: not configured, or not granted");
        break;
    case NO_LEVEL: CAMSHAFT_LOG_WARN("tank.level is bad, valve closed"); break;
    case REFUSED: CAMSHAFT_LOG_ERROR("tank.inflow is not ours to write"); break;
    case CONTROLLING: CAMSHAFT_LOG_INFO("controlling the level"); break;
    case STARTING: break;
    }
}

/* Returns the seconds since the last poll: 0 in the first poll, and at most LONGEST_STEP. */
static double step_seconds(void) {
    uint64_t now = camshaft_now_ns();
    double step = has_polled ? (double)(now - last_poll) / 1e9 : 0.0;
    last_poll = now;
    has_polled = true;
    return clamp(step, 0.0, LONGEST_STEP);
}

/* Returns the setpoint, limited to 0 to 100 %, or the default if the variable is not valid. */
static double setpoint(void) {
    double wanted = DEFAULT_SETPOINT;
    int32_t code = CAMSHAFT_READ_DOUBLE("tank.setpoint", &wanted);
    if (code == CAMSHAFT_UNKNOWN) {
        /* If this write fails, the default is still used, and the next poll writes again. */
        (void)CAMSHAFT_WRITE_DOUBLE("tank.setpoint", DEFAULT_SETPOINT);
    } else if (code == CAMSHAFT_OTHER_TYPE && !has_setpoint_complaint) {
        has_setpoint_complaint = true;
        CAMSHAFT_LOG_WARN("variable tank.setpoint is not a double, keeping the default");
    }
    return wanted == wanted ? clamp(wanted, 0.0, 100.0) : DEFAULT_SETPOINT;
}

/* Reads the level in %; false if the level is bad or not readable. An uncertain level is used: the
 * tank is slow, and the host marks the level as bad if no new value arrives. */
static bool read_level(double *level) {
    uint8_t quality = CAMSHAFT_BAD;
    int32_t code = wasm_point_read_double(level_point, level, &quality);
    return code == CAMSHAFT_OK && quality != CAMSHAFT_BAD && *level == *level;
}

/* Returns the valve position in % for this control error. */
static double control(double error, double seconds) {
    double step = INTEGRAL_GAIN * error * seconds;
    double demand = GAIN * error + integral + step;
    double valve = clamp(demand, 0.0, 100.0);
    /* Anti-windup: if the demand is beyond an end of the valve, the integral does not
     * change. */
    if (demand == valve) integral = clamp(integral + step, 0.0, 100.0);
    return valve;
}

CAMSHAFT_EXPORT("init") void init(void) {
    if (!find_points()) enter(NO_POINT);
}

CAMSHAFT_EXPORT("poll") void poll(void) {
    double seconds = step_seconds();
    double wanted = setpoint();
    double level = 0.0;
    bool is_found = find_points();
    bool is_known = read_level(&level);
    double valve = is_known ? control(wanted - level, seconds) : 0.0;
    bool is_written = wasm_point_write_double(inflow_point, valve) == CAMSHAFT_OK;
    /* Without a valid level or a working valve, the control error has no meaning. */
    if (!is_known || !is_written) integral = 0.0;
    enter(!is_found ? NO_POINT : !is_written ? REFUSED : !is_known ? NO_LEVEL : CONTROLLING);
}

/* The next version gets the integral, so that the valve does not jump at a swap. */
CAMSHAFT_EXPORT("save") void save(void) {
    (void)wasm_state_write(&STATE_VERSION, sizeof STATE_VERSION);
    (void)wasm_state_write(&integral, sizeof integral);
}

CAMSHAFT_EXPORT("restore") void restore(void) {
    uint8_t version = 0;
    double saved = 0.0;
    int32_t version_bytes = 0, saved_bytes = 0;
    (void)wasm_state_read(&version, sizeof version, &version_bytes);
    (void)wasm_state_read(&saved, sizeof saved, &saved_bytes);
    bool is_whole = version_bytes == sizeof version && saved_bytes == sizeof saved;
    if (is_whole && version == STATE_VERSION && saved == saved) {
        integral = clamp(saved, 0.0, 100.0);
    } else {
        CAMSHAFT_LOG_WARN("the saved state is of another version, starting cold");
    }
}
