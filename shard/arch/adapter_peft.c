/* adapter_peft: adapters as PEFT writes them: adapter_config.json and safetensors whose tensors are called after the
 * modules of the checkpoint that was tuned.  What a module is in the model, and how its rows and columns lie there,
 * the names and layouts of folders say (hf_names, hf_tensors).
 *
 * A config that asks for more than products of A and B is refused by the name of what it asks for: without it the
 * adapter would answer wrongly.                                                                                      */
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/arch/adapter_parts.h"

#define CONFIG "adapter_config.json"
#define WEIGHTS "adapter_model.safetensors"

static const char a_end[] = ".lora_A.weight", b_end[] = ".lora_B.weight";

struct peft {
    struct adapter *a;
    const struct safetensors *tensors;
    json_t *config;
    struct hf_config numbers; /* of the model, as layouts ask for them */
    double alpha;
    bool rooted; /* alpha / sqrt(rank) */
    struct error *e;
};

/* ---- the config ---- */

static int unsupported(const struct peft *p, const char *words)
{
    return error_set(p->e, ERR_UNSUPPORTED, "%s: %s, which is not supported", adapter_path(p->a), words);
}

static bool is_set(const json_t *v)
{
    return v && !json_is_null(v) && !json_is_false(v) && !(json_is_array(v) && json_array_size(v) == 0) &&
           !(json_is_object(v) && json_object_size(v) == 0);
}

/* What changes the sum, or the weights that it is added to. */
static int refuse_extras(const struct peft *p)
{
    static const struct {
        const char *key, *words;
    } extras[] = {
        {"use_dora", "is DoRA (use_dora)"},
        {"use_qalora", "is QALoRA (use_qalora)"},
        {"use_bdlora", "is of blocks (use_bdlora)"},
        {"lora_bias", "has biases (lora_bias)"},
        {"modules_to_save", "holds whole modules (modules_to_save)"},
        {"trainable_token_indices", "changes tokens of the embedding (trainable_token_indices)"},
        {"target_parameters", "changes parameters that are no modules (target_parameters)"},
        {"fan_in_fan_out", "is of turned matrices (fan_in_fan_out)"},
        {"layer_replication", "repeats layers (layer_replication)"},
        {"alora_invocation_tokens", "is switched on by certain tokens (alora_invocation_tokens)"},
        {"arrow_config", "chooses among adapters (arrow_config)"},
        {"kasa_config", "is KaSA (kasa_config)"},
        {"monteclora_config", "is MonteCLoRA (monteclora_config)"},
    };
    static const char *const changing[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const char *type = json_string_value(json_object_get(p->config, "peft_type"));
    const char *bias = json_string_value(json_object_get(p->config, "bias"));
    const char *init = json_string_value(json_object_get(p->config, "init_lora_weights"));
    if (!type || strcmp(type, "LORA") != 0)
        return error_set(p->e, ERR_UNSUPPORTED, "%s: is of type %.40s, and only LORA is supported", adapter_path(p->a),
                         type ? type : "none");
    if (bias && strcmp(bias, "none") != 0)
        return unsupported(p, "has biases (bias)");
    for (size_t i = 0; i < COUNTOF(extras); i++)
        if (is_set(json_object_get(p->config, extras[i].key)))
            return unsupported(p, extras[i].words);
    for (size_t i = 0; init && i < COUNTOF(changing); i++)
        if (strncmp(init, changing[i], strlen(changing[i])) == 0)
            return unsupported(p, "belongs to weights that were changed before (init_lora_weights); convert it to "
                                  "plain LoRA");
    return 0;
}

static int read_config(struct peft *p)
{
    const json_t *alpha = json_object_get(p->config, "lora_alpha");
    int r = refuse_extras(p);
    if (r != 0)
        return r;
    p->alpha = json_number_value(alpha);
    p->rooted = json_is_true(json_object_get(p->config, "use_rslora"));
    if (!json_is_number(alpha) || !isfinite(p->alpha))
        return error_set(p->e, ERR_CORRUPT, "%s: lora_alpha is missing or no number", adapter_path(p->a));
    return 0;
}

/* A module's own alpha: the pattern is the end of its name; only plain names are known here. */
static int alpha_of(const struct peft *p, const char *module, double *out)
{
    const char *key;
    json_t *value, *patterns = json_object_get(p->config, "alpha_pattern");
    size_t n = strlen(module);
    *out = p->alpha;
    json_object_foreach(patterns, key, value) {
        size_t m = strlen(key);
        if (strpbrk(key, "^$*+?()[]{}|\\") || !json_is_number(value))
            return unsupported(p, "has an alpha_pattern that is more than names and numbers");
        if (m > 0 && m <= n && strcmp(module + n - m, key) == 0 && (m == n || module[n - m - 1] == '.'))
            *out = json_number_value(value);
    }
    return 0;
}

/* ---- modules ---- */

static void fill_numbers(struct hf_config *c, const struct hparams *h)
{
    *c = (struct hf_config){.arch = h->arch, .n_layers = h->n_layers, .n_embd = h->n_embd, .n_heads = h->n_heads,
                            .n_kv_heads = h->n_kv_heads, .head_dim = h->head_dim, .n_rot = h->n_rot,
                            .n_experts = h->n_experts, .nope_dim = h->head_dim - h->n_rot, .value_dim = h->value_dim,
                            .k_heads = h->delta.k_heads, .v_heads = h->delta.v_heads, .k_dim = h->delta.k_dim,
                            .v_dim = h->delta.v_dim};
    for (size_t i = 0; i < hf_family_count() && !c->family; i++)
        if (strcmp(hf_family_at(i)->arch, h->arch->name) == 0)
            c->family = hf_family_at(i);
}

static bool take_number(const char **text, uint32_t *out)
{
    char *end;
    unsigned long n = **text >= '0' && **text <= '9' ? strtoul(*text, &end, 10) : ULONG_MAX;
    if (n >= 1 << 20)
        return false;
    *text = end;
    *out = (uint32_t)n;
    return true;
}

/* "layers.%u.mlp.experts.%e.up_proj.weight" of "layers.3.mlp.experts.7.up_proj"; *expert -1 where there is none. */
static bool matches(const char *pattern, const char *module, uint32_t *layer, int32_t *expert)
{
    uint32_t n;
    *layer = 0;
    *expert = -1;
    while (*pattern && *module) {
        if (pattern[0] == '%') {
            if (!take_number(&module, &n))
                return false;
            if (pattern[1] == 'u')
                *layer = n;
            else
                *expert = (int32_t)n;
            pattern += 2;
        } else if (*pattern++ != *module++) {
            return false;
        }
    }
    return *module == '\0' && strcmp(pattern, ".weight") == 0;
}

/* The module behind what wraps the language model. */
static const char *bare_name(const char *module, size_t i)
{
    static const char *const prefixes[] = {"model.language_model.", "language_model.model.", "language_model.",
                                           "model.", ""};
    if (i >= COUNTOF(prefixes))
        return NULL;
    size_t n = strlen(prefixes[i]);
    return strncmp(module, prefixes[i], n) == 0 ? module + n : "";
}

static struct thin thin_of(const struct peft *p, const struct st_tensor *t)
{
    static const uint32_t types[] = {[ST_F32] = QTYPE_F32, [ST_F16] = QTYPE_F16, [ST_BF16] = QTYPE_BF16};
    bool known = t->dtype == ST_F32 || t->dtype == ST_F16 || t->dtype == ST_BF16;
    return (struct thin){.name = t->name, .type = known ? qtype_find(types[t->dtype]) : NULL,
                         .ne = {t->shape[1], t->shape[0], 1}, .bytes = safetensors_bytes(p->tensors, t),
                         .at = {1, t->offset, t->bytes}};
}

static int check_tensor(const struct peft *p, const struct st_tensor *t)
{
    bool floats = t->dtype == ST_F32 || t->dtype == ST_F16 || t->dtype == ST_BF16;
    if (t->n_dims == 2 && floats && t->shape[0] > 0 && t->shape[1] > 0)
        return 0;
    return error_set(p->e, floats ? ERR_CORRUPT : ERR_UNSUPPORTED, "%s: tensor %s is %s, and not a matrix of F32, F16 "
                                                                   "or BF16", adapter_path(p->a), t->name,
                     t->n_dims == 2 ? st_dtype_name(t->dtype) : "of other dimensions");
}

/* One row of names that fits: what it is in the model. */
static int add_named(struct peft *p, const struct hf_name *name, uint32_t layer, int32_t expert,
                     const struct st_tensor *a, const struct st_tensor *b, double alpha)
{
    struct hf_tensor lay = {0};
    struct thin_pair pair = {.a = thin_of(p, a), .b = thin_of(p, b), .slice = expert, .lay = &lay};
    double rank = (double)a->shape[0];
    pair.scale = (float)(alpha / (p->rooted ? sqrt(rank) : rank));
    arch_tensor_name(name->ours, (int32_t)layer, pair.target);
    if (!hf_lay(&lay, name->layout, &p->numbers, pair.b.ne[1], pair.a.ne[0]))
        return error_set(p->e, ERR_INVALID, "%s: %s and %s do not go with the model's numbers: the adapter was made "
                                            "for another model", adapter_path(p->a), a->name, b->name);
    return adapter_add(p->a, &pair, p->e);
}

static int add_module(struct peft *p, const char *module, const struct st_tensor *a, const struct st_tensor *b)
{
    double alpha;
    bool found = false;
    int r = alpha_of(p, module, &alpha);
    const char *bare;
    for (size_t k = 0; r == 0 && !found && (bare = bare_name(module, k)) != NULL; k++)
        for (size_t i = 0; r == 0 && bare[0] && i < hf_name_count(); i++) {
            const struct hf_name *name = hf_name_at(i);
            uint32_t layer;
            int32_t expert;
            if (!hf_name_applies(name, &p->numbers) || !matches(name->theirs, bare, &layer, &expert))
                continue;
            found = true;
            r = add_named(p, name, layer, expert, a, b, alpha);
        }
    if (r == 0 && !found)
        r = error_set(p->e, ERR_UNSUPPORTED, "%s: changes module %s, which is no matrix inside the layers of family %s",
                      adapter_path(p->a), module, p->numbers.arch->name);
    return r;
}

/* ---- tensors ---- */

static int refuse_tensor(const struct peft *p, const char *name)
{
    if (strstr(name, "lora_magnitude_vector"))
        return unsupported(p, "is DoRA (it has magnitude vectors)");
    if (strstr(name, "lora_embedding_"))
        return unsupported(p, "changes the embedding");
    return error_set(p->e, ERR_UNSUPPORTED, "%s: holds tensor %s, which is no part of a LoRA adapter",
                     adapter_path(p->a), name);
}

/* The module of a tensor's name, and whether it is its A; false: it is neither A nor B. */
static bool split_name(const char *name, char module[static HF_NAME_BYTES], bool *is_a)
{
    static const char start[] = "base_model.model.";
    const char *rest = strncmp(name, start, strlen(start)) == 0 ? name + strlen(start) : name;
    size_t n = strlen(rest), m = strlen(a_end);
    if (n <= m || n - m >= HF_NAME_BYTES)
        return false;
    *is_a = strcmp(rest + n - m, a_end) == 0;
    snprintf(module, HF_NAME_BYTES, "%.*s", (int)(n - m), rest);
    return *is_a || strcmp(rest + n - m, b_end) == 0;
}

static int add_tensor(struct peft *p, const struct st_tensor *t)
{
    char module[HF_NAME_BYTES], other[SAFETENSORS_NAME_MAX + 1];
    bool is_a;
    if (!split_name(t->name, module, &is_a))
        return refuse_tensor(p, t->name);
    snprintf(other, sizeof(other), "%.*s%s", (int)(strlen(t->name) - strlen(a_end)), t->name, is_a ? b_end : a_end);
    const struct st_tensor *o = safetensors_find(p->tensors, other);
    if (!o)
        return error_set(p->e, ERR_CORRUPT, "%s: has %s and no %s", adapter_path(p->a), t->name, other);
    int r = is_a ? check_tensor(p, t) : 0;
    if (r == 0 && is_a)
        r = check_tensor(p, o);
    return r == 0 && is_a ? add_module(p, module, t, o) : r;
}

int adapter_peft_read(struct adapter *a, const char *folder, const struct safetensors *tensors, struct error *e)
{
    struct hf where = {.path = (char *)(uintptr_t)folder};
    struct peft p = {.a = a, .tensors = tensors, .e = e};
    int r = hf_load_json(&where, CONFIG, HF_CONFIG_BYTES_MAX, &p.config, e);
    if (r == 0)
        r = read_config(&p);
    fill_numbers(&p.numbers, adapter_hparams(a));
    if (r == 0 && !p.numbers.family)
        r = error_set(e, ERR_UNSUPPORTED, "%s: adapters of PEFT for family %s are not supported", adapter_path(a),
                      p.numbers.arch->name);
    for (size_t i = 0; r == 0 && i < safetensors_count(tensors); i++)
        r = add_tensor(&p, safetensors_at(tensors, i));
    json_decref(p.config);
    return r;
}

/* ---- files ---- */

bool adapter_peft_place(const char *path, char **folder, char **weights)
{
    static const char end[] = ".safetensors";
    size_t n = strlen(path), m = strlen(end);
    bool is_folder = path_is_folder(path);
    if (!is_folder && (n <= m || strcmp(path + n - m, end) != 0))
        return false;
    const char *slash = strrchr(path, '/');
    *folder = is_folder ? mem_strdup(path) : slash ? mem_strndup(path, (size_t)(slash - path) + 1) : mem_strdup(".");
    *weights = is_folder ? path_join(path, WEIGHTS) : mem_strdup(path);
    return true;
}

int adapter_peft_files(struct file_set **out, const char *folder, const struct safetensors *tensors, struct error *e)
{
    struct file_set_entry entries[] = {{.name = CONFIG}, {.name = WEIGHTS}};
    char *config = path_join(folder, CONFIG);
    const char *const paths[] = {config, safetensors_path(tensors)};
    struct stat st;
    int r = stat(config, &st) == 0 ? 0 : error_set(e, ERR_NOT_FOUND, "%s: is not there", config);
    entries[0].bytes = entries[0].head_bytes = r == 0 ? (uint64_t)st.st_size : 0;
    entries[1].bytes = safetensors_file_bytes(tensors);
    entries[1].head_bytes = safetensors_head_bytes(tensors);
    if (r == 0)
        r = file_set_open_at(out, paths, entries, COUNTOF(entries), e);
    mem_free(config);
    return r;
}
