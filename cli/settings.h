/* settings: what a user may choose: one row a setting, and where each value came from.
 *
 * A setting is a flag (--kv-type), an environment variable (SHOAL_KV_TYPE) and
 * a key of a YAML file (kv_type), in that order of precedence, then its
 * default.  A row names the commands that take it; one YAML file may serve
 * several commands, so keys of other commands are allowed in it, but a key that
 * no command knows is an error that names the line.  Values are checked when
 * they are read: the getters cannot fail.  One thread owns a settings.       */
#ifndef CLI_SETTINGS_H
#define CLI_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum settings_limits {
    SETTINGS_FILE_MAX = 1 << 20,
    SETTINGS_ARGUMENTS_MAX = 64,
    SETTINGS_LIST_MAX = 1 << 16,
};

/* Commands as bits, so that a row can name several. */
enum command_bit {
    CMD_RUN = 1 << 0,
    CMD_SERVE = 1 << 1,
    CMD_COORDINATOR = 1 << 2,
    CMD_NODE = 1 << 3,
    CMD_UP = 1 << 4,
    CMD_STATUS = 1 << 5,
    CMD_SHOW = 1 << 6,
    CMD_TOKENIZE = 1 << 7,
    CMD_SYNTH = 1 << 8,
    CMD_BENCH = 1 << 9,
    CMD_LOGITS = 1 << 10,
    CMD_INVITE = 1 << 11,
    CMD_KEYS = 1 << 12,
    CMD_QUANTIZE = 1 << 13,
    CMD_PULL = 1 << 14,
    CMD_LS = 1 << 15,
    CMD_RM = 1 << 16,
    CMD_ALL = (1 << 17) - 1,
};

enum setting_kind {
    SETTING_TEXT,
    SETTING_COUNT,  /* a whole number */
    SETTING_REAL,
    SETTING_BYTES,  /* "512MB", "4GiB", "1.5G" */
    SETTING_SWITCH, /* a flag without a value; true or false in YAML and the environment */
    SETTING_LIST,   /* whole numbers with commas */
    SETTING_TEXTS,  /* texts with commas; the flag may also be given several times */
};

struct settings;

/* Flags, environment, file, defaults for one command.  argv[0] is the command's own name.  `help` is set when
 * --help was asked for; then nothing else was checked. */
MUST_USE int settings_read(struct settings **out, enum command_bit command, int argc, char **argv, bool *help,
                           struct error *e);
void settings_free(struct settings **s);

size_t settings_argument_count(const struct settings *s);
const char *settings_argument(const struct settings *s, size_t i); /* NULL past the end */

/* Put another text in the place of one that is there: a path for a model's name. */
void settings_replace_argument(struct settings *s, size_t i, const char *text);
void settings_replace_text(struct settings *s, const char *key, const char *text);

/* The key must be a row of this command: anything else is a mistake of ours and asserts. */
const char *settings_text(const struct settings *s, const char *key); /* NULL when unset and without default */
uint64_t settings_count(const struct settings *s, const char *key);   /* 0 when unset; bytes as well */
double settings_real(const struct settings *s, const char *key);
bool settings_switch(const struct settings *s, const char *key);
/* True when the user gave it, anywhere. */
bool settings_given(const struct settings *s, const char *key);
/* The n texts of a row of several, in memory of the settings. */
const char *const *settings_texts(const struct settings *s, const char *key, size_t *n);
/* The numbers of a list, in memory of the settings. */
const uint32_t *settings_list(const struct settings *s, const char *key, size_t *n);

/* One paragraph a setting of the command, on standard output. */
void settings_help(enum command_bit command);

/* settings_file.c: calls `set` for every "key: value" of a YAML mapping, with the line it stands on. */
typedef int (*settings_set_fn)(void *arg, const char *key, const char *value, size_t line, struct error *e);
MUST_USE int settings_file_read(const char *path, settings_set_fn set, void *arg, struct error *e);

#endif
