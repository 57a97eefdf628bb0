/* settings_rows: the table behind settings.c. Not for others.
 *
 * Columns: key (--key-with-dashes, SHOAL_KEY, YAML key), letter of the short
 * flag or 0, kind, commands that take it, default (NULL: none), smallest and
 * largest number, the value's name in the help, help.  A key may have several
 * rows when commands mean different things by it; no command has two.        */
#ifndef CLI_SETTINGS_ROWS_H
#define CLI_SETTINGS_ROWS_H

#include "cli/settings.h"

struct setting {
    const char *key;
    char letter;
    enum setting_kind kind;
    uint32_t commands;
    const char *fallback;
    double min, max;
    const char *value;
    const char *help;
};

extern const struct setting setting_rows[];
extern const size_t setting_row_count;

#endif
