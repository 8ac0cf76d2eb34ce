/* tank: keeps the level of a tank at its setpoint by moving the inflow valve.
 *
 * Reads the point `tank.level` (% full), writes the point `tank.inflow` (% open), and takes the
 * variable `tank.setpoint` (% full; created with DEFAULT_SETPOINT if nobody has). A PI controller
 * whose integral stops growing while the valve is at its end. Whenever the level cannot be
 * believed, the valve is closed. It logs when its state changes, not in every cycle.
 */
#include "../sdk/camshaft.h"

/* Half full and a bit: far from both ends, so a first look at the demo shows it working. */
static const double DEFAULT_SETPOINT = 60.0;

/* Valve % per % of level: an error of 25 % opens the valve fully. */
static const double GAIN = 4.0;

/* Valve % per % of level and second: an integral time of 16 s, slower than a tank fills. */
static const double INTEGRAL_GAIN = 0.25;

/* The longest time between two polls that the integral believes, in seconds: after a pause the
 * plant has done things that this program did not see. */
static const double LONGEST_STEP = 1.0;

/* First byte of the saved state; counts up whenever its layout changes. */
static const uint8_t STATE_VERSION = 1;

/* Why the valve stands where it stands; each poll decides afresh, so any may follow any.
 *
 *                      .-> NO_POINT     a point was not found                     valve closed
 *   STARTING --poll----+-> NO_LEVEL     the level cannot be believed              valve closed
 *                      +-> REFUSED      the host does not let us move the valve
 *                      '-> CONTROLLING  all is well                               valve as computed
 */
enum state { STARTING, NO_POINT, NO_LEVEL, REFUSED, CONTROLLING };

static enum state state = STARTING;
static uint32_t level_point = CAMSHAFT_NO_POINT;
static uint32_t inflow_point = CAMSHAFT_NO_POINT;
static double integral;     /* valve %, 0 to 100 */
static bool has_polled;     /* whether last_poll is true */
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

/* One log line for each change of state. */
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

/* Seconds since the last poll: 0 at the first, never more than LONGEST_STEP. */
static double step_seconds(void) {
    uint64_t now = camshaft_now_ns();
    double step = has_polled ? (double)(now - last_poll) / 1e9 : 0.0;
    last_poll = now;
    has_polled = true;
    return clamp(step, 0.0, LONGEST_STEP);
}

/* What the operator wants, within 0 to 100 %; the default when the variable cannot tell. */
static double setpoint(void) {
    double wanted = DEFAULT_SETPOINT;
    int32_t code = CAMSHAFT_READ_DOUBLE("tank.setpoint", &wanted);
    if (code == CAMSHAFT_UNKNOWN) {
        /* If this fails the default counts all the same, and the next poll tries again. */
        (void)CAMSHAFT_WRITE_DOUBLE("tank.setpoint", DEFAULT_SETPOINT);
    } else if (code == CAMSHAFT_OTHER_TYPE && !has_setpoint_complaint) {
        has_setpoint_complaint = true;
        CAMSHAFT_LOG_WARN("variable tank.setpoint is not a double, keeping the default");
    }
    return wanted == wanted ? clamp(wanted, 0.0, 100.0) : DEFAULT_SETPOINT;
}

/* The level in %; false when it cannot be believed. An uncertain level is still controlled on: the
 * tank is slow, and the host makes a level that stays away bad. */
static bool read_level(double *level) {
    uint8_t quality = CAMSHAFT_BAD;
    int32_t code = wasm_point_read_double(level_point, level, &quality);
    return code == CAMSHAFT_OK && quality != CAMSHAFT_BAD && *level == *level;
}

/* The valve's position in % for this error of the level. */
static double control(double error, double seconds) {
    double step = INTEGRAL_GAIN * error * seconds;
    double demand = GAIN * error + integral + step;
    double valve = clamp(demand, 0.0, 100.0);
    /* Anti-windup: beyond an end of the valve the error can only push further out, so the integral
     * stays as it is. */
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
    /* Without a level or a valve there is nothing to learn from the error. */
    if (!is_known || !is_written) integral = 0.0;
    enter(!is_found ? NO_POINT : !is_written ? REFUSED : !is_known ? NO_LEVEL : CONTROLLING);
}

/* The integral goes along to the next version, so that the valve does not jump at a swap. */
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
