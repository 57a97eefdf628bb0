/* bench_peer: another program's figures, read from what its benchmark prints.
 *
 * Known: llama-bench's table, JSON and JSON lines; llama-batched-bench's JSON
 * lines; JSON of shoal bench itself, so that two builds can be compared.  What
 * a command prints is not trusted: lines that are none of these are passed over. */
#ifndef CLI_BENCH_PEER_H
#define CLI_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/bench_report.h"

enum { BENCH_PEER_FIGURES_MAX = 256, BENCH_PEER_BYTES_MAX = 4 << 20 };

struct bench_peer_figure {
    struct bench_case what;
    uint32_t threads; /* 0: it does not say */
    double rate;      /* tokens a second, of all sequences together */
};

/* What stands for {model}, {threads}, {prompt}, {generate} and {depth} in the command. */
struct bench_peer_wants {
    const char *model;
    uint32_t threads, prompt, generate, depth;
};

/* Figures in `text` of len bytes, NUL-terminated; returns how many. */
size_t bench_peer_read(const char *text, size_t len, struct bench_peer_figure out[static BENCH_PEER_FIGURES_MAX]);
bool bench_peer_fits(const struct bench_peer_figure *f, const struct bench_case *c, uint32_t threads);
/* Runs the command with the shell. ERR_INVALID: it fails, or prints no figure. ERR_CANCELLED: Ctrl-C, which the
 * terminal gives to both. */
MUST_USE int bench_peer_run(const char *command, const struct bench_peer_wants *w,
                            struct bench_peer_figure out[static BENCH_PEER_FIGURES_MAX], size_t *n, struct error *e);

#endif
