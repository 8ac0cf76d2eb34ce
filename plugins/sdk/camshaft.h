/* camshaft.h: everything a Camshaft plugin in C or C++ needs, in one freestanding header.
 *
 * The header declares all functions of the host (ABI versions 0 and 1) with the names that the host
 * uses. It adds small helper functions and macros with the prefixes `camshaft_` and `CAMSHAFT_`.
 * The header needs no libc, allocates no memory and formats no text. A plugin imports only the
 * functions that it calls.
 *
 *     #include "camshaft.h"
 *
 *     static uint32_t button, lamp;
 *
 *     CAMSHAFT_EXPORT("init") void init(void) {
 *         button = CAMSHAFT_POINT("button.start");
 *         lamp = CAMSHAFT_POINT("lamp");
 *         CAMSHAFT_LOG_INFO("ready");
 *     }
 *
 *     CAMSHAFT_EXPORT("poll") void poll(void) {
 *         wasm_point_write_boolean(lamp, camshaft_good_boolean(button, false));
 *     }
 *
 *     clang --target=wasm32 -O2 -nostdlib -ffreestanding -Wl,--no-entry -Iplugins/sdk \
 *         -o plugin.wasm plugin.c
 *
 * A plugin must export `poll`, which the host calls once per cycle. Three more exports are
 * optional:
 *
 *     init      called once, before the first poll; it can read inputs, but not yet write outputs
 *     save      called in the old version when a new version of the file takes over
 *     restore   called in the new version after `save`, between the same two cycles
 *
 * These functions have no arguments and no result. Inputs do not change during a poll. The writes
 * of a poll take effect when the poll returns. If the poll traps, none of its writes takes effect.
 * `../tank/tank.c` is a complete example.
 *
 * A C++ plugin with global objects that have constructors also needs the two lines below. Without
 * these lines the linker makes all constructors run in each poll, and `camshaft check` reports this
 * mistake. With a libc, use -mexec-model=reactor instead of these lines.
 *
 *     extern "C" void __wasm_call_ctors(void);
 *     CAMSHAFT_EXPORT("_initialize") void initialize(void) { __wasm_call_ctors(); }
 */
#ifndef CAMSHAFT_H
#define CAMSHAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exports a function to the host under the name `name`. */
#define CAMSHAFT_EXPORT(name) __attribute__((export_name(name)))

#define CAMSHAFT_IMPORT(name) __attribute__((import_module("env"), import_name(name)))

/* ---- Codes, levels, qualities ------------------------------------------------------------ */

/* The result of every function of the host. A call with another result than CAMSHAFT_OK has changed
 * nothing. */
enum camshaft_code {
    CAMSHAFT_OK = 0,
    CAMSHAFT_ERROR = 1,         /* wrong pointer, length, level, value or text; or limit reached */
    CAMSHAFT_OUT_OF_BOUNDS = 2, /* the address is outside the image */
    CAMSHAFT_UNKNOWN = 3,       /* no variable or point has this name or id */
    CAMSHAFT_OTHER_TYPE = 4,    /* the variable or point has another type */
    CAMSHAFT_DENIED = 5,        /* not granted, owned by another plugin, or not allowed now */
};

/* The level of a log line. */
enum camshaft_level {
    CAMSHAFT_LEVEL_ERROR = 0,
    CAMSHAFT_LEVEL_WARN = 1,
    CAMSHAFT_LEVEL_INFO = 2,
    CAMSHAFT_LEVEL_DEBUG = 3,
    CAMSHAFT_LEVEL_TRACE = 4,
};

/* The quality of a point: how far its value can be trusted. */
enum camshaft_quality {
    CAMSHAFT_GOOD = 0,      /* a new value from the device */
    CAMSHAFT_UNCERTAIN = 1, /* the last good value, but it is too old */
    CAMSHAFT_BAD = 2,       /* do not use: never read, device lost, or not a number */
};

/* An id that no point has. Every call with this id returns CAMSHAFT_UNKNOWN. */
#define CAMSHAFT_NO_POINT UINT32_MAX

/* ---- ABI version 0 ----------------------------------------------------------------------- */

/* Writes a log line. The text is UTF-8. The host cuts a line at 1 KiB, and limits the number of
 * lines per second. */
CAMSHAFT_IMPORT("wasm_log")
int32_t wasm_log(int32_t level, const char *file, uint32_t file_len, uint32_t line,
                 const char *msg, uint32_t msg_len);

/* Copies `len` bytes from the input image, which is latched at the start of the cycle. Numbers are
 * little endian. */
CAMSHAFT_IMPORT("wasm_read_input")
int32_t wasm_read_input(uint32_t address, void *buf, uint32_t len);

/* Writes `len` bytes to the output image; the write takes effect at the end of the poll. Numbers
 * are little endian. For a float that is not finite the result is CAMSHAFT_ERROR. A float that is
 * written in parts is checked at the end of the poll: if it is not finite, its point keeps the
 * previous value. */
CAMSHAFT_IMPORT("wasm_write_output")
int32_t wasm_write_output(uint32_t address, const void *data, uint32_t len);

/* Reads the monotonic clock. The time does not change during a poll. `nanos` is below 1 000 000
 * 000. */
CAMSHAFT_IMPORT("wasm_current_time")
int32_t wasm_current_time(uint64_t *secs, uint32_t *nanos);

/* Reads a variable. The host stores all variables: all programs share them, and they keep their
 * values at a swap. A poll that writes a variable reads the new value at once. A boolean is one
 * byte, 0 or 1. */
CAMSHAFT_IMPORT("wasm_variable_read_boolean")
int32_t wasm_variable_read_boolean(const char *name, uint32_t name_len, bool *value);
CAMSHAFT_IMPORT("wasm_variable_read_double")
int32_t wasm_variable_read_double(const char *name, uint32_t name_len, double *value);
CAMSHAFT_IMPORT("wasm_variable_read_int")
int32_t wasm_variable_read_int(const char *name, uint32_t name_len, int32_t *value);

/* Writes a variable. If the variable does not exist, the write creates it with this type, and the
 * type never changes. CAMSHAFT_DENIED: the configuration does not grant the variable to this plugin
 * (key `variables` of its [[plugin]] entry). CAMSHAFT_ERROR: the variable is new, and this plugin
 * has already created 256 variables. */
CAMSHAFT_IMPORT("wasm_variable_write_boolean")
int32_t wasm_variable_write_boolean(const char *name, uint32_t name_len, int32_t value);
CAMSHAFT_IMPORT("wasm_variable_write_double")
int32_t wasm_variable_write_double(const char *name, uint32_t name_len, double value);
CAMSHAFT_IMPORT("wasm_variable_write_int")
int32_t wasm_variable_write_int(const char *name, uint32_t name_len, int32_t value);

/* ---- ABI version 1 ----------------------------------------------------------------------- */

/* Finds a point by its name in the configuration. Call this function once, in `init`: the id is
 * valid as long as the configuration contains the point. If a reload removes a point and another
 * reload adds it again, find the point again. */
CAMSHAFT_IMPORT("wasm_point_find")
int32_t wasm_point_find(const char *name, uint32_t name_len, uint32_t *id);

/* Reads a point, in the unit of the point. `quality` receives one byte, an enum camshaft_quality.
 * `quality` may be NULL. */
CAMSHAFT_IMPORT("wasm_point_read_boolean")
int32_t wasm_point_read_boolean(uint32_t id, bool *value, uint8_t *quality);
CAMSHAFT_IMPORT("wasm_point_read_double")
int32_t wasm_point_read_double(uint32_t id, double *value, uint8_t *quality);
CAMSHAFT_IMPORT("wasm_point_read_int")
int32_t wasm_point_read_int(uint32_t id, int32_t *value, uint8_t *quality);

/* Writes an output point, in the unit of the point; the write takes effect at the end of the poll.
 * CAMSHAFT_ERROR: the type of the point cannot represent the value. */
CAMSHAFT_IMPORT("wasm_point_write_boolean")
int32_t wasm_point_write_boolean(uint32_t id, int32_t value);
CAMSHAFT_IMPORT("wasm_point_write_double")
int32_t wasm_point_write_double(uint32_t id, double value);
CAMSHAFT_IMPORT("wasm_point_write_int")
int32_t wasm_point_write_int(uint32_t id, int32_t value);

/* Reads the reason for the quality of an input, as a status code of OPC UA. Status 0 is good; the
 * two highest bits are the enum camshaft_quality. `age_ms` is the time since the input was last
 * good, or UINT32_MAX if it was never good. */
CAMSHAFT_IMPORT("wasm_point_quality")
int32_t wasm_point_quality(uint32_t id, uint32_t *status, uint32_t *age_ms);

/* Tells whether an input in the list `requires` of this plugin is bad. While such an input is bad,
 * all outputs of this plugin are safe, and its writes have no effect. */
CAMSHAFT_IMPORT("wasm_degraded")
int32_t wasm_degraded(bool *degraded);

/* Copies `len` bytes from the output image that the devices got at the end of the last cycle. */
CAMSHAFT_IMPORT("wasm_read_output")
int32_t wasm_read_output(uint32_t address, void *buf, uint32_t len);

/* Reads the number of this cycle, and the scan period in microseconds. */
CAMSHAFT_IMPORT("wasm_cycle")
int32_t wasm_cycle(uint64_t *count, uint32_t *period_us);

/* Appends bytes to the saved state, which the next version of this plugin reads. Only allowed in
 * `save`. The whole state is at most 1 MiB. Write a version number first. */
CAMSHAFT_IMPORT("wasm_state_write")
int32_t wasm_state_write(const void *data, uint32_t len);

/* Reads the next bytes of the saved state. Only allowed in `restore`. `read` receives the number of
 * bytes that were read. */
CAMSHAFT_IMPORT("wasm_state_read")
int32_t wasm_state_read(void *buf, uint32_t len, int32_t *read);

/* ---- Helpers ----------------------------------------------------------------------------- */

/* Turns a string literal into two arguments, pointer and length. Other expressions do not compile.
 * */
#define CAMSHAFT_TEXT(literal) ("" literal ""), ((uint32_t)(sizeof(literal) - 1))

/* Logs a string literal with the file and line of the call: CAMSHAFT_LOG_INFO("valve closed"). */
#define CAMSHAFT_LOG(level, literal) \
    ((void)wasm_log((level), CAMSHAFT_TEXT(__FILE__), __LINE__, CAMSHAFT_TEXT(literal)))
#define CAMSHAFT_LOG_ERROR(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_ERROR, literal)
#define CAMSHAFT_LOG_WARN(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_WARN, literal)
#define CAMSHAFT_LOG_INFO(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_INFO, literal)
#define CAMSHAFT_LOG_DEBUG(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_DEBUG, literal)
#define CAMSHAFT_LOG_TRACE(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_TRACE, literal)

/* Returns the id of the point with this name (a string literal), or CAMSHAFT_NO_POINT. */
#define CAMSHAFT_POINT(literal) camshaft_point(CAMSHAFT_TEXT(literal))
static inline uint32_t camshaft_point(const char *name, uint32_t name_len) {
    uint32_t id = CAMSHAFT_NO_POINT;
    return wasm_point_find(name, name_len, &id) == CAMSHAFT_OK ? id : CAMSHAFT_NO_POINT;
}

/* Returns the value of a point if its quality is good. Returns `otherwise` if the point is bad,
 * uncertain, not found, not granted or of another type. Choose for `otherwise` the value at which
 * nothing in the plant can move. */
static inline bool camshaft_good_boolean(uint32_t point, bool otherwise) {
    bool value = otherwise;
    uint8_t quality = CAMSHAFT_BAD;
    int32_t code = wasm_point_read_boolean(point, &value, &quality);
    return code == CAMSHAFT_OK && quality == CAMSHAFT_GOOD ? value : otherwise;
}

static inline double camshaft_good_double(uint32_t point, double otherwise) {
    double value = otherwise;
    uint8_t quality = CAMSHAFT_BAD;
    int32_t code = wasm_point_read_double(point, &value, &quality);
    return code == CAMSHAFT_OK && quality == CAMSHAFT_GOOD ? value : otherwise;
}

static inline int32_t camshaft_good_int(uint32_t point, int32_t otherwise) {
    int32_t value = otherwise;
    uint8_t quality = CAMSHAFT_BAD;
    int32_t code = wasm_point_read_int(point, &value, &quality);
    return code == CAMSHAFT_OK && quality == CAMSHAFT_GOOD ? value : otherwise;
}

/* Read or write a variable whose name is a string literal. The result is the code of the host. For
 * a read, `value` is a pointer. */
#define CAMSHAFT_READ_BOOLEAN(name, value) \
    wasm_variable_read_boolean(CAMSHAFT_TEXT(name), (value))
#define CAMSHAFT_READ_DOUBLE(name, value) \
    wasm_variable_read_double(CAMSHAFT_TEXT(name), (value))
#define CAMSHAFT_READ_INT(name, value) \
    wasm_variable_read_int(CAMSHAFT_TEXT(name), (value))
#define CAMSHAFT_WRITE_BOOLEAN(name, value) \
    wasm_variable_write_boolean(CAMSHAFT_TEXT(name), (value))
#define CAMSHAFT_WRITE_DOUBLE(name, value) \
    wasm_variable_write_double(CAMSHAFT_TEXT(name), (value))
#define CAMSHAFT_WRITE_INT(name, value) \
    wasm_variable_write_int(CAMSHAFT_TEXT(name), (value))

/* Returns the monotonic clock in nanoseconds, for time differences between polls. The number wraps
 * around after 584 years. */
static inline uint64_t camshaft_now_ns(void) {
    uint64_t secs = 0;
    uint32_t nanos = 0;
    (void)wasm_current_time(&secs, &nanos);
    return secs * 1000000000u + nanos;
}

#ifdef __cplusplus
}
#endif

#endif
