/* about: see about.h. */
#include "coordinator/api/about.h"

#include <string.h>

#include "base/memory.h"

/* general.file_type, in the words of those who publish files. */
static const char *const file_types[] = {
    [0] = "F32", [1] = "F16", [2] = "Q4_0", [3] = "Q4_1", [7] = "Q8_0", [8] = "Q5_0", [9] = "Q5_1", [10] = "Q2_K",
    [11] = "Q3_K_S", [12] = "Q3_K_M", [13] = "Q3_K_L", [14] = "Q4_K_S", [15] = "Q4_K_M", [16] = "Q5_K_S",
    [17] = "Q5_K_M", [18] = "Q6_K", [19] = "IQ2_XXS", [20] = "IQ2_XS", [21] = "Q2_K_S", [22] = "IQ3_XS",
    [23] = "IQ3_XXS", [24] = "IQ1_S", [25] = "IQ4_NL", [26] = "IQ3_S", [27] = "IQ3_M", [28] = "IQ2_S",
    [29] = "IQ2_M", [30] = "IQ4_XS", [31] = "IQ1_M", [32] = "BF16", [36] = "TQ1_0", [37] = "TQ2_0",
    [38] = "MXFP4",
};

/* Types beyond the first TYPES_MAX are not counted. */
static const char *widest_type(const struct model *m)
{
    enum { TYPES_MAX = 32 };
    struct {
        const struct qtype *type;
        uint64_t bytes;
    } sums[TYPES_MAX] = { 0 };
    size_t best = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const struct model_tensor *t = model_tensor_at(m, i);
        size_t k = 0;
        while (k + 1 < TYPES_MAX && sums[k].type != NULL && sums[k].type != t->info->type)
            k++;
        if (sums[k].type == NULL)
            sums[k].type = t->info->type;
        if (sums[k].type == t->info->type)
            sums[k].bytes += t->bytes;
        best = sums[k].bytes > sums[best].bytes ? k : best;
    }
    return sums[best].type == NULL ? "unknown" : sums[best].type->name;
}

const char *about_quantization(const struct model *m)
{
    uint64_t type;
    bool named = gguf_get_u64(model_file(m), "general.file_type", &type);
    return named && type < COUNTOF(file_types) && file_types[type] != NULL ? file_types[type] : widest_type(m);
}

char *about_parameters(const struct model *m)
{
    return about_size((double)model_params_total(m));
}

char *about_size(double n)
{
    if (n >= 1e9)
        return mem_printf("%.1fB", n / 1e9);
    return n >= 1e6 ? mem_printf("%.2fM", n / 1e6) : mem_printf("%.0fK", n / 1e3);
}

const char *about_state(const struct control_route *route)
{
    static const char *const names[] = {
        [CONTROL_WAITING] = "waiting", [CONTROL_LOADING] = "loading", [CONTROL_READY] = "ready"};
    return names[route->state];
}

json_t *about_placement(const struct control_route *route)
{
    json_t *stages = json_array();
    for (uint32_t i = 0; i < route->n_stages; i++) {
        const struct control_stage *s = &route->stages[i];
        json_array_append_new(stages, json_pack("{s:s, s:I, s:I}", "node", s->name, "layer_first",
                                                (json_int_t)s->layer_first, "layer_last", (json_int_t)s->layer_last));
    }
    return json_pack("{s:s, s:o}", "state", about_state(route), "stages", stages);
}
