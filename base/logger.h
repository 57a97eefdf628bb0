/* logger: one event a line on standard error: "time level noun event key=value ...".
 *
 * Used by node, coordinator and cli; libraries below them return errors and
 * count.  Prompts, answers and keys are never logged.  What a stranger can
 * trigger goes through logger_limited().  Any thread may call.               */
#ifndef BASE_LOGGER_H
#define BASE_LOGGER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void logger_level(enum log_level max);          /* default LOG_INFO */
bool logger_level_parse(const char *name);      /* "error", "warn", "info", "debug" */
/* noun: the speaking part ("node", "coordinator", "link"); then event and key=value pairs. */
void logger_event(enum log_level level, const char *noun, const char *format, ...) PRINTF_LIKE(3, 4);

/* At most `per_minute` lines a minute from this call site's gate; the rest are counted and the
 * count is said with the next line. */
struct log_gate {
    uint64_t window_ms;
    uint32_t in_window;
    uint32_t dropped;
};
void logger_limited(struct log_gate *gate, uint32_t per_minute, enum log_level level, const char *noun,
                    const char *format, ...) PRINTF_LIKE(5, 6);

#define log_error(noun, ...) logger_event(LOG_ERROR, noun, __VA_ARGS__)
#define log_warn(noun, ...) logger_event(LOG_WARN, noun, __VA_ARGS__)
#define log_info(noun, ...) logger_event(LOG_INFO, noun, __VA_ARGS__)
#define log_debug(noun, ...) logger_event(LOG_DEBUG, noun, __VA_ARGS__)

#endif
