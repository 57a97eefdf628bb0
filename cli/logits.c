/* logits: float32 rows of one process or of a cluster into a file, byte for byte comparable. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/cluster_url.h"
#include "cli/interrupt.h"
#include "cli/local.h"

enum { OUT_BYTES_MAX = 1 << 30 };

/* One shard of all layers, batch by batch, every row's logits kept. */
static int rows_of_local(struct local *l, const int32_t *tokens, uint32_t n, struct buffer *out, struct error *e)
{
    uint32_t n_vocab = model_hparams(l->model)->n_vocab;
    struct step_row rows[STEP_ROWS_MAX];
    for (uint32_t at = 0; at < n;) {
        uint32_t count = n - at < l->batch_rows_max ? n - at : l->batch_rows_max;
        if (interrupt_seen())
            return error_set(e, ERR_CANCELLED, "stopped");
        for (uint32_t i = 0; i < count; i++)
            rows[i] = (struct step_row){
                .sequence = 1, .position = at + i, .token = tokens[at + i], .flags = ROW_LOGITS,
                .adapter = l->lora != NULL};
        int r = shard_step(l->shard, rows, count, NULL, e);
        if (r != 0)
            return r;
        for (uint32_t i = 0; i < count; i++)
            buffer_add(out, shard_logits(l->shard, i), n_vocab * sizeof(float));
        at += count;
    }
    return 0;
}

static int check_tokens(const int32_t *tokens, uint32_t n, uint32_t n_vocab, struct error *e)
{
    for (uint32_t i = 0; i < n; i++)
        if ((uint32_t)tokens[i] >= n_vocab)
            return error_set(e, ERR_INVALID, "token %d: the vocabulary has %u", tokens[i], n_vocab);
    return 0;
}

static int by_local(const struct settings *s, const int32_t *tokens, uint32_t n, struct buffer *out, struct error *e)
{
    struct local l;
    struct local_options o = {
        .path = settings_argument(s, 0),
        .device = {.threads = (int)settings_count(s, "threads"), .isa = settings_text(s, "isa")},
        .backend = settings_text(s, "backend"),
        .kv_type = settings_text(s, "kv_type"),
        .context = n,
        .sequences_max = 1,
        .batch_rows_max = (uint32_t)settings_count(s, "batch_rows"),
        .settings = s,
    };
    int r = local_open(&l, &o, e);
    if (r != 0)
        return r;
    r = check_tokens(tokens, n, model_hparams(l.model)->n_vocab, e);
    if (r == 0)
        r = rows_of_local(&l, tokens, n, out, e);
    local_close(&l);
    return r;
}

static void add_model(struct buffer *body, const char *name)
{
    json_t *text = name ? json_string(name) : NULL; /* what is not UTF-8 is no model's name */
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    if (quoted)
        buffer_printf(body, ",\"model\":%s", quoted);
    free(quoted);
    json_decref(text);
}

static int by_cluster(const struct settings *s, const int32_t *tokens, uint32_t n, struct buffer *out, struct error *e)
{
    char *url;
    int r = cluster_url_of(settings_text(s, "cluster"), &url, e);
    if (r != 0)
        return r;
    struct client c = {.url = url, .key = settings_text(s, "api_key"), .stop = interrupt_seen,
                       .ca = settings_text(s, "tls_ca")};
    struct buffer body;
    buffer_init(&body, 16 << 20);
    buffer_add_text(&body, "{\"tokens\":[");
    for (uint32_t i = 0; i < n; i++)
        buffer_printf(&body, "%s%d", i ? "," : "", tokens[i]);
    buffer_add_text(&body, "]");
    add_model(&body, settings_text(s, "model_name"));
    buffer_add_text(&body, "}");
    buffer_close(out); /* the call initialises it */
    r = client_call(&c, "/shoal/logits", buffer_text(&body), out, e);
    buffer_close(&body);
    mem_free(url);
    return r;
}

int logits_command(const struct settings *s, struct error *e)
{
    size_t n;
    const uint32_t *given = settings_list(s, "tokens", &n);
    const char *path = settings_text(s, "out"), *cluster = settings_text(s, "cluster");
    if (n == 0 || !path)
        return error_set(e, ERR_INVALID, "give --tokens ID,ID... and --out FILE");
    if (!cluster == !settings_argument(s, 0))
        return error_set(e, ERR_INVALID, "give either a model file or --cluster URL");
    int32_t *tokens = mem_array(n, sizeof(*tokens));
    for (size_t i = 0; i < n; i++)
        tokens[i] = (int32_t)given[i];
    struct buffer out;
    buffer_init(&out, OUT_BYTES_MAX);
    int r = cluster ? by_cluster(s, tokens, (uint32_t)n, &out, e) : by_local(s, tokens, (uint32_t)n, &out, e);
    if (r == 0 && buffer_failed(&out))
        r = error_set(e, ERR_LIMIT, "the logits of %zu tokens are more than %d bytes; give fewer", n, OUT_BYTES_MAX);
    if (r == 0)
        r = path_write_atomic(path, buffer_text(&out), out.len, 0644, e);
    if (r == 0)
        fprintf(stderr, "shoal: %zu rows of %zu logits in %s\n", n, out.len / n / sizeof(float), path);
    buffer_close(&out);
    mem_free(tokens);
    return r;
}
