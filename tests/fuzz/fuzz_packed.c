/* fuzz_packed: one quantised module: a safetensors file whose __metadata__ holds the config.json and the module's name,
 * as the cases of tests/data/packed do. */
#include <string.h>

#include <jansson.h>

#include "base/memory.h"
#include "base/path.h"
#include "shard/format/packed.h"
#include "tests/fuzz/fuzz.h"

static const struct st_tensor *look_up(void *arg, const char *name)
{
    return safetensors_find(arg, name);
}

static void read_rows(const struct safetensors *s, const struct packed_matrix *m)
{
    struct packed_bytes b = {{0}};
    bool ordered;
    for (int i = 0; i < PACKED_PARTS; i++)
        b.at[i] = m->parts[i] ? safetensors_bytes(s, m->parts[i]) : NULL;
    uint32_t *order = mem_array(m->cols, sizeof(*order));
    size_t row_bytes = qtype_row_bytes(m->type, m->cols);
    uint8_t *row = mem_alloc(row_bytes);
    FUZZ_CHECK(row_bytes > 0);
    if (packed_order(m, &b, order, &ordered, NULL) == 0) {
        int r = 0;
        for (uint64_t k = 0; ordered && k < m->cols; k++)
            FUZZ_CHECK(order[k] < m->cols);
        for (uint64_t i = 0; r == 0 && i < m->slices * m->rows; i++)
            r = packed_rows(m, &b, ordered ? order : NULL, i / m->rows, i % m->rows, 1, row, NULL);
        float value;
        if (packed_values(m, &b, m->slices - 1, m->rows - 1, m->cols - 1, 1, &value, NULL) == 0)
            FUZZ_CHECK(value == value); /* scales and codes that are no numbers were refused */
    }
    mem_free(order);
    mem_free(row);
}

static void find(struct safetensors *s, const json_t *config)
{
    const char *name = safetensors_meta(s, "name");
    struct packed_matrix m;
    struct packed *p;
    if (packed_open(&p, config, NULL) != 0 || !p)
        return;
    if (name && packed_find(p, name, 0, look_up, s, &m, NULL) == 0 && m.type)
        read_rows(s, &m);
    packed_close(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *s;
    if (safetensors_open(&s, fuzz_file(data, size), NULL) != 0)
        return 0;
    const char *text = safetensors_meta(s, "config");
    json_t *config = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (config)
        find(s, config);
    json_decref(config);
    safetensors_close(&s);
    return 0;
}

void fuzz_seeds(fuzz_give_fn give, void *arg)
{
    static const char *const names[] = {"gptq3_act", "gptq4_act_short", "awq4", "fp8_block", "fp8_odd", "tensors_int4",
                                        "tensors_int4_order", "tensors_int5", "tensors_bytes", "mxfp4"};
    for (size_t i = 0; i < COUNTOF(names); i++) {
        char *path = mem_printf("tests/data/packed/%s.safetensors", names[i]), *bytes;
        size_t n;
        FUZZ_CHECK(path_read(path, 1 << 20, &bytes, &n, NULL) == 0);
        give(arg, (const uint8_t *)bytes, n);
        mem_free(bytes);
        mem_free(path);
    }
}
