/* test_mask: masks of every density come back, in the shortest form; what is no mask is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "proto/mask.h"

enum { IDS_MAX = 2000 };

static void test_masks_come_back(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 5);
    for (int round = 0; round < 3000; round++) {
        uint8_t bits[IDS_MAX / 8 + 1] = {0}, got[IDS_MAX / 8 + 1];
        uint32_t n = 1 + (uint32_t)(random_u64(&r) % (IDS_MAX - 8)), out_of = 1 + (uint32_t)(random_u64(&r) % 300);
        bool mostly = random_u64(&r) % 2 == 0;
        for (uint32_t id = 0; id < n; id++)
            if ((random_u64(&r) % out_of == 0) != mostly)
                bits[id / 8] |= (uint8_t)(1u << (id % 8));
        bits[0] |= 1;
        struct buffer b;
        buffer_init(&b, 1 << 16);
        mask_encode(&b, bits, n);
        assert_true(b.len <= MASK_HEAD_BYTES + (n + 7) / 8);
        memset(got, 0xAA, sizeof(got));
        assert_int_equal(mask_decode(buffer_text(&b), b.len, got, n + 7, NULL), 0);
        assert_memory_equal(got, bits, (n + 14) / 8);
        buffer_close(&b);
    }
}

static size_t bytes_for(const uint8_t *bits, uint32_t n, enum mask_form form)
{
    struct buffer b;
    buffer_init(&b, 1 << 16);
    mask_encode(&b, bits, n);
    size_t len = b.len;
    assert_int_equal(b.data[0], (char)form);
    buffer_close(&b);
    return len;
}

static void test_the_shortest_form_is_taken(void **state)
{
    (void)state;
    uint8_t bits[IDS_MAX / 8] = {0};
    bits[100] = 1;
    assert_int_equal(bytes_for(bits, IDS_MAX, MASK_ALLOWED), MASK_HEAD_BYTES + 2); /* 801 takes two groups */
    memset(bits, 0xFF, sizeof(bits));
    bits[0] = 0xFE;
    assert_int_equal(bytes_for(bits, IDS_MAX, MASK_DENIED), MASK_HEAD_BYTES + 1);
    memset(bits, 0x55, sizeof(bits));
    assert_int_equal(bytes_for(bits, IDS_MAX, MASK_BITS), MASK_HEAD_BYTES + sizeof(bits));
}

static void test_what_is_no_mask_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[16];
        size_t n;
        int status;
    } rows[] = {
        {{MASK_BITS, 8, 0, 0, 0, 1}, 6, 0},
        {{MASK_BITS, 8, 0, 0, 0}, 5, ERR_CORRUPT},
        {{MASK_BITS, 8, 0, 0, 0, 1, 1}, 7, ERR_CORRUPT},
        {{MASK_BITS, 7, 0, 0, 0, 0x80}, 6, ERR_CORRUPT},   /* a bit past the last id */
        {{MASK_BITS, 8, 0, 0, 0, 0}, 6, ERR_CORRUPT},      /* nothing is allowed */
        {{MASK_BITS, 0, 0, 0, 0}, 5, ERR_CORRUPT},
        {{MASK_BITS, 41, 0, 0, 0, 1, 0, 0, 0, 0, 0}, 11, ERR_CORRUPT}, /* more than there are */
        {{MASK_ALLOWED, 40, 0, 0, 0, 40}, 6, 0},
        {{MASK_ALLOWED, 40, 0, 0, 0, 41}, 6, ERR_CORRUPT},
        {{MASK_ALLOWED, 40, 0, 0, 0, 20, 21}, 7, ERR_CORRUPT},
        {{MASK_ALLOWED, 40, 0, 0, 0, 1, 0}, 7, ERR_CORRUPT}, /* the same again */
        {{MASK_ALLOWED, 40, 0, 0, 0, 0x81}, 6, ERR_CORRUPT},
        {{MASK_ALLOWED, 40, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}, 11, ERR_CORRUPT},
        {{MASK_ALLOWED, 40, 0, 0, 0}, 5, ERR_CORRUPT},
        {{MASK_DENIED, 1, 0, 0, 0, 1}, 6, ERR_CORRUPT},
        {{MASK_DENIED, 40, 0, 0, 0}, 5, 0},
        {{3, 40, 0, 0, 0, 1}, 6, ERR_CORRUPT},
        {{MASK_BITS, 8}, 2, ERR_CORRUPT},
        {{0}, 0, ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        uint8_t bits[5];
        struct error e = {0};
        if (mask_decode(rows[i].bytes, rows[i].n, bits, 40, &e) != rows[i].status)
            fail_msg("row %zu: %s", i, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_come_back),
        cmocka_unit_test(test_the_shortest_form_is_taken),
        cmocka_unit_test(test_what_is_no_mask_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
