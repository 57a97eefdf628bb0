/* command: the subcommands of shoal, one row of main.c each.
 *
 * A command gets its settings read and checked, returns 0 or a negative enum
 * status with the sentence in `e`, and may print what was asked for on standard
 * output.  Messages to people go to standard error.                         */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "base/error.h"
#include "cli/settings.h"

struct command {
    const char *name;
    enum command_bit bit;
    const char *arguments; /* for the usage line */
    size_t arguments_min, arguments_max;
    const char *summary;   /* one line */
    const char *details;   /* for --help, may be NULL */
    int (*run)(const struct settings *s, struct error *e);
};

int run_command(const struct settings *s, struct error *e);
int serve_command(const struct settings *s, struct error *e);
int coordinator_command(const struct settings *s, struct error *e);
int node_command(const struct settings *s, struct error *e);
int up_command(const struct settings *s, struct error *e);
int status_command(const struct settings *s, struct error *e);
int invite_command(const struct settings *s, struct error *e);
int keys_command(const struct settings *s, struct error *e);
int show_command(const struct settings *s, struct error *e);
int tokenize_command(const struct settings *s, struct error *e);
int synth_command(const struct settings *s, struct error *e);
int quantize_command(const struct settings *s, struct error *e);
int bench_command(const struct settings *s, struct error *e);
int pull_command(const struct settings *s, struct error *e);
int ls_command(const struct settings *s, struct error *e);
int rm_command(const struct settings *s, struct error *e);
int logits_command(const struct settings *s, struct error *e);

#endif
