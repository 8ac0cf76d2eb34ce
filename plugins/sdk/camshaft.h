/* camshaft.h: everything a Camshaft plugin in C or C++ needs, in one freestanding header.
 *
 * It declares what the host offers (ABI versions 0 and 1) under the host's own names, and adds
 * thin conveniences under `camshaft_` and `CAMSHAFT_`. It needs no libc, allocates nothing and
 * formats no text; a function that is not called is not imported.
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
 * A plugin exports `poll` (once per cycle) and, if it likes: `init` (once, before the first poll;
 * inputs are readable, outputs are not writable yet), `save` and `restore` (a pair, called
 * between two cycles when a new version of the file takes over). All of them take and return
 * nothing. Inputs stand still during a poll; what a poll writes takes effect when it returns, and
 * nothing of it when it traps. `../tank/tank.c` is a complete example.
 *
 * In C++ a global object with a constructor needs this as well, or the linker has all constructors
 * run in each poll, which `camshaft check` notes. With a libc, -mexec-model=reactor does it.
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

/* Makes a function callable by the host under `name`. */
#define CAMSHAFT_EXPORT(name) __attribute__((export_name(name)))

#define CAMSHAFT_IMPORT(name) __attribute__((import_module("env"), import_name(name)))

/* ---- Codes, levels, qualities ------------------------------------------------------------ */

/* What every function of the host returns. A call that fails changes nothing. */
enum camshaft_code {
    CAMSHAFT_OK = 0,
    CAMSHAFT_ERROR = 1,         /* bad pointer, length, level, value or text; a limit reached */
    CAMSHAFT_OUT_OF_BOUNDS = 2, /* the address lies outside the image */
    CAMSHAFT_UNKNOWN = 3,       /* no variable or point of that name or id */
    CAMSHAFT_OTHER_TYPE = 4,    /* it exists with another type */
    CAMSHAFT_DENIED = 5,        /* not granted to this plugin, owned by another, or not now */
};

/* How important a log line is. */
enum camshaft_level {
    CAMSHAFT_LEVEL_ERROR = 0,
    CAMSHAFT_LEVEL_WARN = 1,
    CAMSHAFT_LEVEL_INFO = 2,
    CAMSHAFT_LEVEL_DEBUG = 3,
    CAMSHAFT_LEVEL_TRACE = 4,
};

/* How far a point's value can be believed. */
enum camshaft_quality {
    CAMSHAFT_GOOD = 0,      /* fresh from the device */
    CAMSHAFT_UNCERTAIN = 1, /* the last usable value, no longer fresh */
    CAMSHAFT_BAD = 2,       /* not to be used: never read, device lost, or not a number */
};

/* An id that no point has: every call with it gives CAMSHAFT_UNKNOWN. */
#define CAMSHAFT_NO_POINT UINT32_MAX

/* ---- ABI version 0 ----------------------------------------------------------------------- */

/* Writes a log line. Text is UTF-8; a line is cut at 1 KiB and lines per second are limited. */
CAMSHAFT_IMPORT("wasm_log")
int32_t wasm_log(int32_t level, const char *file, uint32_t file_len, uint32_t line,
                 const char *msg, uint32_t msg_len);

/* Copies `len` bytes of the input image, as latched at the start of the cycle. Little endian. */
CAMSHAFT_IMPORT("wasm_read_input")
int32_t wasm_read_input(uint32_t address, void *buf, uint32_t len);

/* Stages `len` bytes of the output image. Little endian. A float that is not finite is CAMSHAFT_ERROR;
 * where only a part of a float is written, the whole is judged at the end of the poll, and one that
 * is not finite keeps its value. */
CAMSHAFT_IMPORT("wasm_write_output")
int32_t wasm_write_output(uint32_t address, const void *data, uint32_t len);

/* The monotonic clock; the same instant during a whole poll. `nanos` is below 1 000 000 000. */
CAMSHAFT_IMPORT("wasm_current_time")
int32_t wasm_current_time(uint64_t *secs, uint32_t *nanos);

/* Variables are the host's: shared by all programs, and they survive a swap. A poll reads back its
 * own writes at once. A boolean is one byte, 0 or 1. */
CAMSHAFT_IMPORT("wasm_variable_read_boolean")
int32_t wasm_variable_read_boolean(const char *name, uint32_t name_len, bool *value);
CAMSHAFT_IMPORT("wasm_variable_read_double")
int32_t wasm_variable_read_double(const char *name, uint32_t name_len, double *value);
CAMSHAFT_IMPORT("wasm_variable_read_int")
int32_t wasm_variable_read_int(const char *name, uint32_t name_len, int32_t *value);

/* Writing creates a variable that is new; its type is fixed from then on. CAMSHAFT_DENIED for one
 * that the configuration does not grant to this plugin (`variables` of its [[plugin]]);
 * CAMSHAFT_ERROR for a new one when this plugin has made 256 already. */
CAMSHAFT_IMPORT("wasm_variable_write_boolean")
int32_t wasm_variable_write_boolean(const char *name, uint32_t name_len, int32_t value);
CAMSHAFT_IMPORT("wasm_variable_write_double")
int32_t wasm_variable_write_double(const char *name, uint32_t name_len, double value);
CAMSHAFT_IMPORT("wasm_variable_write_int")
int32_t wasm_variable_write_int(const char *name, uint32_t name_len, int32_t value);

/* ---- ABI version 1 ----------------------------------------------------------------------- */

/* Finds a point by its name in the configuration. Do it once, in `init`: the id stays valid as long
 * as the configuration has that point. One that comes back later has to be found again. */
CAMSHAFT_IMPORT("wasm_point_find")
int32_t wasm_point_find(const char *name, uint32_t name_len, uint32_t *id);

/* Reads a point in its unit. `quality` receives one byte, an enum camshaft_quality; it may be
 * NULL. */
CAMSHAFT_IMPORT("wasm_point_read_boolean")
int32_t wasm_point_read_boolean(uint32_t id, bool *value, uint8_t *quality);
CAMSHAFT_IMPORT("wasm_point_read_double")
int32_t wasm_point_read_double(uint32_t id, double *value, uint8_t *quality);
CAMSHAFT_IMPORT("wasm_point_read_int")
int32_t wasm_point_read_int(uint32_t id, int32_t *value, uint8_t *quality);

/* Stages an output point, in its unit. A value that its type cannot hold gives CAMSHAFT_ERROR. */
CAMSHAFT_IMPORT("wasm_point_write_boolean")
int32_t wasm_point_write_boolean(uint32_t id, int32_t value);
CAMSHAFT_IMPORT("wasm_point_write_double")
int32_t wasm_point_write_double(uint32_t id, double value);
CAMSHAFT_IMPORT("wasm_point_write_int")
int32_t wasm_point_write_int(uint32_t id, int32_t value);

/* Why an input is as good as it is, as a status code of OPC UA: 0 is good; the two highest bits are
 * the enum camshaft_quality. `age_ms` is how long ago it was good last, UINT32_MAX if never. */
CAMSHAFT_IMPORT("wasm_point_quality")
int32_t wasm_point_quality(uint32_t id, uint32_t *status, uint32_t *age_ms);

/* Whether an input that the configuration `requires` for this plugin is bad: then its outputs are
 * safe, whatever it writes. */
CAMSHAFT_IMPORT("wasm_degraded")
int32_t wasm_degraded(bool *degraded);

/* Copies bytes of the output image as the devices had it at the end of the last cycle. */
CAMSHAFT_IMPORT("wasm_read_output")
int32_t wasm_read_output(uint32_t address, void *buf, uint32_t len);

/* The number of this cycle, and the scan period in microseconds. */
CAMSHAFT_IMPORT("wasm_cycle")
int32_t wasm_cycle(uint64_t *count, uint32_t *period_us);

/* Only in `save`: appends to the state that the next version of this plugin will find. At most
 * 1 MiB in all. Put a version number first. */
CAMSHAFT_IMPORT("wasm_state_write")
int32_t wasm_state_write(const void *data, uint32_t len);

/* Only in `restore`: takes the next bytes of that state; `read` says how many there were. */
CAMSHAFT_IMPORT("wasm_state_read")
int32_t wasm_state_read(void *buf, uint32_t len, int32_t *read);

/* ---- Conveniences ------------------------------------------------------------------------ */

/* A string literal as the two arguments (pointer, length); anything but a literal does not
 * compile. */
#define CAMSHAFT_TEXT(literal) ("" literal ""), ((uint32_t)(sizeof(literal) - 1))

/* Logs a string literal with its place in the source: CAMSHAFT_LOG_INFO("valve closed"). */
#define CAMSHAFT_LOG(level, literal) \
    ((void)wasm_log((level), CAMSHAFT_TEXT(__FILE__), __LINE__, CAMSHAFT_TEXT(literal)))
#define CAMSHAFT_LOG_ERROR(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_ERROR, literal)
#define CAMSHAFT_LOG_WARN(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_WARN, literal)
#define CAMSHAFT_LOG_INFO(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_INFO, literal)
#define CAMSHAFT_LOG_DEBUG(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_DEBUG, literal)
#define CAMSHAFT_LOG_TRACE(literal) CAMSHAFT_LOG(CAMSHAFT_LEVEL_TRACE, literal)

/* The id of the point with this literal name, or CAMSHAFT_NO_POINT. */
#define CAMSHAFT_POINT(literal) camshaft_point(CAMSHAFT_TEXT(literal))
static inline uint32_t camshaft_point(const char *name, uint32_t name_len) {
    uint32_t id = CAMSHAFT_NO_POINT;
    return wasm_point_find(name, name_len, &id) == CAMSHAFT_OK ? id : CAMSHAFT_NO_POINT;
}

/* The value of a point while it is good, and `otherwise` whenever it is not: bad or uncertain,
 * not found, not granted, of another type. Give the value on which nothing can move. */
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

/* Variables by literal name; each gives the host's code. `value` is a pointer when reading. */
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

/* The monotonic clock in nanoseconds, for differences between two polls; wraps after 584 years. */
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
