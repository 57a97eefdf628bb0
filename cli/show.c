/* show: what a model is made of and what it, or a range of its layers, will need, from the headers alone. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/show.h"
#include "kernels/pool.h"
#include "shard/arch/arch.h"
#include "shard/run/shard.h"

enum {
    CONTEXT_SHOWN = 8192,
    PROCESS_BYTES = 17 << 20, /* a node's process without a shard: code, libraries, links */
};

struct type_share {
    const struct qtype *type;
    uint64_t bytes, tensors;
};

/* The tensors' types, the largest share first. */
static size_t count_types(const struct model *m, struct type_share *shares, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const struct gguf_tensor *t = model_tensor_at(m, i)->info;
        size_t k = 0;
        while (k < n && shares[k].type != t->type)
            k++;
        if (k == max)
            continue;
        if (k == n)
            shares[n++] = (struct type_share){.type = t->type};
        shares[k].bytes += t->bytes;
        shares[k].tensors++;
    }
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && shares[j].bytes > shares[j - 1].bytes; j--) {
            struct type_share swap = shares[j];
            shares[j] = shares[j - 1];
            shares[j - 1] = swap;
        }
    return n;
}

struct sizes {
    uint64_t weights, embedding, head, layer_least, layer_most, kv_f16, kv_f32, per_token;
};

static struct sizes measure(const struct model *m)
{
    const struct hparams *h = model_hparams(m);
    struct layer_range all = {0, h->n_layers, true, true};
    struct layer_range plain = {0, h->n_layers, false, false};
    struct layer_range first = {0, h->n_layers, true, false}, last = {0, h->n_layers, false, true};
    struct sizes s = {.weights = model_range_bytes(m, &all), .per_token = model_range_bytes_per_token(m, &all)};
    s.embedding = model_range_bytes(m, &first) - model_range_bytes(m, &plain);
    s.head = model_range_bytes(m, &last) - model_range_bytes(m, &plain);
    s.layer_least = UINT64_MAX;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        uint64_t bytes = model_layer_bytes(m, i);
        s.layer_least = bytes < s.layer_least ? bytes : s.layer_least;
        s.layer_most = bytes > s.layer_most ? bytes : s.layer_most;
    }
    s.kv_f16 = model_kv_bytes_per_token(m, h->n_layers, KV_F16);
    s.kv_f32 = model_kv_bytes_per_token(m, h->n_layers, KV_F32);
    return s;
}

/* ---- a range of layers, as a node holds it ---- */

struct range_sizes {
    struct shard_options o;
    struct shard_need need;
    uint64_t process;        /* what is there beside the shard: code, links, the headers */
    uint64_t resident, full; /* once it is loaded; when the KV cache is full as well */
};

static int read_range(const char *text, const struct model *m, struct layer_range *out, struct error *e)
{
    uint32_t n = model_hparams(m)->n_layers;
    *out = (struct layer_range){0, n, true, true};
    if (!text)
        return 0;
    char *colon, *end;
    unsigned long first = strtoul(text, &colon, 10), last = *colon == ':' ? strtoul(colon + 1, &end, 10) : 0;
    if (colon == text || *colon != ':' || end == colon + 1 || *end || first >= last || last > n)
        return error_set(e, ERR_INVALID, "--layers: \"%.40s\" is not A:B with A below B, and B at most %u", text, n);
    *out = (struct layer_range){(uint32_t)first, (uint32_t)last, first == 0, last == n};
    return 0;
}

static int measure_range(const struct settings *s, const struct model *m, struct range_sizes *r, struct error *e)
{
    const struct hparams *h = model_hparams(m);
    uint32_t kv_tokens = (uint32_t)settings_count(s, "kv_tokens"), threads = (uint32_t)settings_count(s, "threads");
    uint32_t context = h->context < CONTEXT_SHOWN ? h->context : CONTEXT_SHOWN;
    r->o = (struct shard_options){.kv_tokens = kv_tokens ? kv_tokens : context,
                                  .sequences_max = (uint32_t)settings_count(s, "sequences"),
                                  .batch_rows_max = (uint32_t)settings_count(s, "batch_rows")};
    int status = model_kv_type(m, settings_text(s, "kv_type"), &r->o.kv_type, e);
    if (status == 0)
        status = read_range(settings_text(s, "layers"), m, &r->o.range, e);
    if (status == 0)
        status = model_check_range(m, &r->o.range, e);
    if (status != 0)
        return status;
    shard_need(m, &r->o, &r->need);
    r->need.scratch = model_scratch_bytes(m, &r->o.range, r->o.batch_rows_max,
                                          threads ? threads : (uint32_t)pool_cpu_count());
    r->process = PROCESS_BYTES + file_set_head_bytes(model_files(m));
    r->resident = r->need.weights + r->need.scratch + r->process;
    r->full = r->resident + r->need.kv;
    return 0;
}

static void print_range(const struct range_sizes *r)
{
    char a[32], b[32], c[32];
    printf("layers %u:%-4u  weights %s, working space %s for %u rows a step, process %s\n", r->o.range.first,
           r->o.range.last, progress_bytes(r->need.weights, a), progress_bytes(r->need.scratch, b),
           r->o.batch_rows_max, progress_bytes(r->process, c));
    printf("resident       %s once loaded, %s when the KV cache of %u tokens is full\n",
           progress_bytes(r->resident, a), progress_bytes(r->full, b), r->o.kv_tokens);
}

static json_t *range_json(const struct range_sizes *r)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "layer_first",
                     (json_int_t)r->o.range.first, "layer_last", (json_int_t)r->o.range.last, "batch_rows",
                     (json_int_t)r->o.batch_rows_max, "kv_tokens", (json_int_t)r->o.kv_tokens, "weight_bytes",
                     (json_int_t)r->need.weights, "scratch_bytes", (json_int_t)r->need.scratch, "kv_bytes",
                     (json_int_t)r->need.kv, "process_bytes", (json_int_t)r->process, "resident_bytes",
                     (json_int_t)r->resident, "resident_full_bytes", (json_int_t)r->full);
}

/* ---- the model ---- */

static void print_types(const struct model *m)
{
    struct type_share shares[32];
    char text[32];
    size_t n = count_types(m, shares, COUNTOF(shares));
    printf("quantisation   ");
    for (size_t i = 0; i < n; i++)
        printf("%s%s %s in %llu tensors", i ? ", " : "", shares[i].type->name, progress_bytes(shares[i].bytes, text),
               (unsigned long long)shares[i].tensors);
    putchar('\n');
}

static size_t count_here(const struct file_set *set)
{
    size_t here = 0;
    for (size_t i = 0; i < file_set_count(set); i++)
        here += file_set_has(set, i);
    return here;
}

static void print_files(const struct file_set *set)
{
    char text[32];
    size_t n = file_set_count(set), here = count_here(set);
    progress_bytes(file_set_bytes(set), text);
    if (n == 1)
        printf("file           %s\n", text);
    else if (here == n)
        printf("files          %zu, %s together\n", n, text);
    else
        printf("files          %zu, of which %zu are here, %s together: all that follows is of these\n", n, here, text);
}

void show_model(const struct model *m)
{
    const struct hparams *h = model_hparams(m);
    struct sizes s = measure(m);
    char a[32], b[32], c[32];
    printf("name           %s\n", h->name);
    printf("family         %s (%s)\n", h->arch->name, h->arch->words);
    printf("layers         %u of width %u, %u heads (%u KV) of %u\n", h->n_layers, h->n_embd, h->n_heads, h->n_kv_heads,
           h->head_dim);
    if (h->n_experts)
        printf("experts        %u a layer, %u used, width %u\n", h->n_experts, h->n_experts_used, h->n_expert_ffn);
    else
        printf("feed-forward   dense, width %u\n", h->n_ffn);
    printf("context        %u tokens, vocabulary %u\n", h->context, h->n_vocab);
    printf("parameters     %s, %s of them for one token\n", progress_count((double)model_params_total(m), a),
           progress_count((double)model_params_active(m), b));
    print_types(m);
    print_files(model_files(m));
    printf("memory         weights %s: embedding %s, head %s, ", progress_bytes(s.weights, a),
           progress_bytes(s.embedding, b), progress_bytes(s.head, c));
    if (s.layer_least == s.layer_most)
        printf("each layer %s\n", progress_bytes(s.layer_most, a));
    else
        printf("a layer %s to %s\n", progress_bytes(s.layer_least, a), progress_bytes(s.layer_most, b));
    printf("KV cache       %s for 1000 tokens as f16, %s as f32\n", progress_bytes(s.kv_f16 * 1000, a),
           progress_bytes(s.kv_f32 * 1000, b));
    printf("decode reads   %s a token\n", progress_bytes(s.per_token, a));
}

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static int print_json(const struct model *m, const struct range_sizes *range, struct error *e)
{
    const struct hparams *h = model_hparams(m);
    struct sizes s = measure(m);
    struct type_share shares[32];
    size_t n = count_types(m, shares, COUNTOF(shares));
    json_t *types = json_object(), *layers = json_array();
    for (size_t i = 0; i < n; i++)
        json_object_set_new(types, shares[i].type->name, number(shares[i].bytes));
    for (uint32_t i = 0; i < h->n_layers; i++)
        json_array_append_new(layers, number(model_layer_bytes(m, i)));
    json_t *j = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", h->name, "family", h->arch->name,
                          "layers", (json_int_t)h->n_layers, "hidden", (json_int_t)h->n_embd, "experts",
                          (json_int_t)h->n_experts, "experts_used", (json_int_t)h->n_experts_used, "context",
                          (json_int_t)h->context, "vocabulary", (json_int_t)h->n_vocab, "file_bytes",
                          (json_int_t)file_set_bytes(model_files(m)));
    if (!j)
        return error_set(e, ERR_INTERNAL, "the model's name is not text");
    json_object_set_new(j, "parameters", number(model_params_total(m)));
    json_object_set_new(j, "parameters_active", number(model_params_active(m)));
    json_object_set_new(j, "weight_bytes", number(s.weights));
    json_object_set_new(j, "embedding_bytes", number(s.embedding));
    json_object_set_new(j, "head_bytes", number(s.head));
    json_object_set_new(j, "kv_bytes_per_token_f16", number(s.kv_f16));
    json_object_set_new(j, "bytes_per_token", number(s.per_token));
    json_object_set_new(j, "files", number(file_set_count(model_files(m))));
    json_object_set_new(j, "files_here", number(count_here(model_files(m))));
    json_object_set_new(j, "range", range ? range_json(range) : json_null());
    json_object_set_new(j, "types", types);
    json_object_set_new(j, "layer_bytes", layers);
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(j);
    return 0;
}

int show_command(const struct settings *s, struct error *e)
{
    struct model *m;
    struct range_sizes range;
    int r = model_open(&m, settings_argument(s, 0), e);
    if (r != 0)
        return r;
    /* a model of which files are absent can be shown all the same, but not what the whole of it needs */
    bool ranged = settings_text(s, "layers") || file_set_whole(model_files(m), NULL) == 0;
    if (ranged)
        r = measure_range(s, m, &range, e);
    if (r == 0 && settings_switch(s, "json")) {
        r = print_json(m, ranged ? &range : NULL, e);
    } else if (r == 0) {
        show_model(m);
        if (ranged)
            print_range(&range);
    }
    model_close(&m);
    return r;
}
