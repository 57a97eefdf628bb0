/* logger: a line is formatted whole and written with one write(2), so that threads do not mix lines. */
#include "base/logger.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static atomic_int level_max = LOG_INFO;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void logger_level(enum log_level max)
{
    atomic_store(&level_max, (int)max);
}

bool logger_level_parse(const char *name)
{
    for (size_t i = 0; i < COUNTOF(level_names); i++) {
        if (strcasecmp(name, level_names[i]) == 0) {
            logger_level((enum log_level)i);
            return true;
        }
    }
    return false;
}

static void write_line(enum log_level level, const char *noun, const char *format, va_list args)
{
    char line[1024];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03ldZ %-5s %s ", now.tv_nsec / 1000000,
                          level_names[level], noun);
    int more = vsnprintf(line + n, sizeof(line) - n - 1, format, args);
    n += more > 0 ? (size_t)more : 0;
    if (n > sizeof(line) - 2)
        n = sizeof(line) - 2;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c < 0x20 || c == 0x7F)
            line[i] = '?';
    }
    line[n] = '\n';
    if (write(STDERR_FILENO, line, n + 1) < 0) {
        /* A closed standard error is no reason to stop. */
    }
}

void logger_event(enum log_level level, const char *noun, const char *format, ...)
{
    if ((int)level > atomic_load(&level_max))
        return;
    va_list args;
    va_start(args, format);
    write_line(level, noun, format, args);
    va_end(args);
}

void logger_limited(struct log_gate *gate, uint32_t per_minute, enum log_level level, const char *noun,
                    const char *format, ...)
{
    uint64_t now = clock_ms();
    if (now - gate->window_ms >= 60000) {
        if (gate->dropped)
            logger_event(level, noun, "similar lines were left out: count=%u", gate->dropped);
        gate->window_ms = now;
        gate->in_window = gate->dropped = 0;
    }
    if (gate->in_window++ >= per_minute) {
        gate->dropped++;
        return;
    }
    if ((int)level > atomic_load(&level_max))
        return;
    va_list args;
    va_start(args, format);
    write_line(level, noun, format, args);
    va_end(args);
}
