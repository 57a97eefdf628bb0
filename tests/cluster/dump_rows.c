/* dump_rows MODEL LAST TOKEN...: the float32 rows that leave layers [0, LAST), raw on standard output: what a
 * packet capture must not contain. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/backend.h"
#include "shard/run/shard.h"

enum { TOKENS_MAX = 256 };

static int dump(struct shard *s, const struct model *m, int n, char **tokens, struct error *e)
{
    struct step_row rows[TOKENS_MAX];
    for (int i = 0; i < n; i++)
        rows[i] = (struct step_row){
            .sequence = 1, .position = (uint32_t)i, .token = (int32_t)strtol(tokens[i], NULL, 10)};
    int r = shard_step(s, rows, (uint32_t)n, NULL, e);
    if (r == 0 && fwrite(shard_rows(s), sizeof(float) * model_hparams(m)->n_embd, (size_t)n, stdout) != (size_t)n)
        r = error_set(e, ERR_IO, "standard output cannot be written");
    return r;
}

int main(int argc, char **argv)
{
    struct error e = {0};
    struct model *m = NULL;
    struct device *d = NULL;
    struct shard *s = NULL;
    int n = argc - 3;
    if (n < 1 || n > TOKENS_MAX)
        return 64;
    struct shard_options o = {.range = {0, (uint32_t)strtoul(argv[2], NULL, 10), true, false}, .kv_type = KV_F16,
                              .kv_tokens = TOKENS_MAX, .sequences_max = 1, .batch_rows_max = TOKENS_MAX};
    struct device_options one = {.threads = 1};
    int r = model_open(&m, argv[1], &e);
    if (r == 0)
        r = backend_open(&d, "cpu", &one, &e);
    if (r == 0)
        r = shard_open(&s, d, m, &o, &e);
    if (r == 0)
        r = dump(s, m, n, argv + 3, &e);
    if (r != 0)
        fprintf(stderr, "dump_rows: %s\n", e.text);
    shard_close(&s);
    backend_close(&d);
    model_close(&m);
    return status_exit(r);
}
