/* test_invite: the line comes back as it was; every cut and every mistyped character is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "net/invite.h"

static struct invite sample(const char *host)
{
    struct invite i = {.port = 7101, .expires = 1800000000};
    snprintf(i.host, sizeof(i.host), "%s", host);
    memset(i.coordinator_key, 0xC1, sizeof(i.coordinator_key));
    memset(i.sign_public, 0x52, sizeof(i.sign_public));
    memset(i.id, 0x33, sizeof(i.id));
    memset(i.secret, 0xF4, sizeof(i.secret));
    return i;
}

static void test_comes_back_with_every_host(void **state)
{
    (void)state;
    char longest[INVITE_HOST_MAX];
    memset(longest, 'h', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    const char *hosts[] = {"a", "10.0.0.7", "fe80::1%eth0", "coordinator.example.org", "ab", "abc", longest};
    for (size_t n = 0; n < COUNTOF(hosts); n++) {
        struct invite in = sample(hosts[n]), out;
        struct error e;
        char text[INVITE_TEXT_MAX], padded[INVITE_TEXT_MAX + 16];
        invite_text(&in, text);
        assert_true(strlen(text) < INVITE_TEXT_MAX);
        assert_memory_equal(text, "shoal1.", 7);
        assert_int_equal(invite_parse(&out, text, &e), 0);
        assert_memory_equal(&in, &out, sizeof(in));
        snprintf(padded, sizeof(padded), " \t%s\r\n ", text);
        assert_int_equal(invite_parse(&out, padded, &e), 0);
        assert_memory_equal(&in, &out, sizeof(in));
    }
}

static void test_an_expired_one_parses_and_says_when(void **state)
{
    (void)state;
    struct invite in = sample("host"), out;
    char text[INVITE_TEXT_MAX];
    in.expires = -5; /* who judges it has the clock */
    invite_text(&in, text);
    assert_int_equal(invite_parse(&out, text, NULL), 0);
    assert_int_equal(out.expires, -5);
}

static void test_every_truncation_is_called_a_cut(void **state)
{
    (void)state;
    const char *hosts[] = {"h", "ho", "hos"}; /* the text ends in each of base64's three ways */
    for (size_t h = 0; h < COUNTOF(hosts); h++) {
        struct invite in = sample(hosts[h]), out;
        struct error e;
        char text[INVITE_TEXT_MAX];
        invite_text(&in, text);
        for (size_t n = strlen(text); n-- > 0;) {
            text[n] = 0;
            assert_int_equal(invite_parse(&out, text, &e), ERR_INVALID);
            assert_non_null(strstr(e.text, "cut"));
            assert_true(sodium_is_zero((const uint8_t *)&out, sizeof(out)));
        }
    }
}

static void test_every_changed_character_is_refused(void **state)
{
    (void)state;
    const char *hosts[] = {"h", "ho", "hos"};
    static const char other[] = "ABab01-_.!= \x80";
    for (size_t h = 0; h < COUNTOF(hosts); h++) {
        struct invite in = sample(hosts[h]), out;
        struct error e;
        char text[INVITE_TEXT_MAX];
        invite_text(&in, text);
        for (size_t n = 0; n < strlen(text); n++) {
            char was = text[n];
            for (size_t c = 0; c < sizeof(other) - 1; c++) {
                text[n] = other[c];
                if (text[n] != was && !(c == 11 && n == 0))
                    assert_int_equal(invite_parse(&out, text, &e), ERR_INVALID);
            }
            text[n] = was;
        }
        /* The last one, changed in its unused bits only. */
        size_t last = strlen(text) - 1;
        text[last] ^= 1;
        assert_int_equal(invite_parse(&out, text, &e), ERR_INVALID);
    }
}

static void test_swapped_characters_are_called_mistyped(void **state)
{
    (void)state;
    struct invite in = sample("coordinator"), out;
    struct error e;
    char text[INVITE_TEXT_MAX];
    invite_text(&in, text);
    size_t n = strlen(text), swapped = 0;
    for (size_t i = 32; i + 1 < n; i++) { /* past the length of the host */
        if (text[i] == text[i + 1])
            continue;
        char c = text[i];
        text[i] = text[i + 1];
        text[i + 1] = c;
        assert_int_equal(invite_parse(&out, text, &e), ERR_INVALID);
        assert_non_null(strstr(e.text, "mistyped"));
        text[i + 1] = text[i];
        text[i] = c;
        swapped++;
    }
    assert_true(swapped > 20);
}

static void test_other_versions_and_other_lines_are_named(void **state)
{
    (void)state;
    struct invite in = sample("host"), out;
    struct error e;
    char text[INVITE_TEXT_MAX], joined[INVITE_TEXT_MAX + 8];
    invite_text(&in, text);
    text[5] = '2';
    assert_int_equal(invite_parse(&out, text, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "version"));
    static const char *const others[] = {"hello", "shoalX.AAAA", "SHOAL1.AAAA", "http://shoal1.example", "shoal.AAAA",
                                         "shoal1-AAAA", "shoal11"};
    for (size_t i = 0; i < COUNTOF(others); i++) {
        assert_int_equal(invite_parse(&out, others[i], &e), ERR_INVALID);
        assert_non_null(strstr(e.text, "no invite"));
    }
    text[5] = '1';
    snprintf(joined, sizeof(joined), "%s extra", text);
    assert_int_equal(invite_parse(&out, joined, &e), ERR_INVALID);
    snprintf(joined, sizeof(joined), "%sAAAA", text);
    assert_int_equal(invite_parse(&out, joined, &e), ERR_INVALID);
}

static void test_hosts_that_would_change_an_endpoint_are_refused(void **state)
{
    (void)state;
    static const char *const hosts[] = {"", "a b", "a/b", "1.2.3.4;5.6.7.8", "a\nb", "[::1]", "*", "\xc3\xa4"};
    for (size_t i = 0; i < COUNTOF(hosts); i++) {
        struct invite in = sample(hosts[i]), out;
        char text[INVITE_TEXT_MAX];
        invite_text(&in, text);
        assert_int_equal(invite_parse(&out, text, NULL), ERR_INVALID);
    }
    struct invite in = sample("host"), out;
    char text[INVITE_TEXT_MAX];
    in.port = 0;
    invite_text(&in, text);
    assert_int_equal(invite_parse(&out, text, NULL), ERR_INVALID);
}

static void test_a_very_long_line_is_refused(void **state)
{
    (void)state;
    static char text[1 << 20];
    struct invite out;
    memset(text, 'A', sizeof(text) - 1);
    memcpy(text, "shoal1.", 7);
    assert_int_equal(invite_parse(&out, text, NULL), ERR_INVALID);
    assert_int_equal(invite_parse(&out, "", NULL), ERR_INVALID);
}

static void test_proof_binds_all_that_it_names(void **state)
{
    (void)state;
    uint8_t in[4][32] = {{1}, {2}, {3}, {4}}, proof[INVITE_PROOF_BYTES], again[INVITE_PROOF_BYTES];
    uint8_t message[KEY_BYTES + KEY_BYTES + INVITE_NONCE_BYTES];
    invite_proof(in[0], in[1], in[2], in[3], proof);
    memcpy(message, in[1], KEY_BYTES);
    memcpy(message + KEY_BYTES, in[2], KEY_BYTES);
    memcpy(message + 2 * KEY_BYTES, in[3], INVITE_NONCE_BYTES);
    crypto_generichash(again, sizeof(again), message, sizeof(message), in[0], INVITE_SECRET_BYTES);
    assert_memory_equal(proof, again, sizeof(proof));
    for (size_t i = 0; i < 4; i++) {
        in[i][INVITE_SECRET_BYTES - 1] ^= 0x80;
        invite_proof(in[0], in[1], in[2], in[3], again);
        assert_memory_not_equal(proof, again, sizeof(proof));
        in[i][INVITE_SECRET_BYTES - 1] ^= 0x80;
    }
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_back_with_every_host),
        cmocka_unit_test(test_an_expired_one_parses_and_says_when),
        cmocka_unit_test(test_every_truncation_is_called_a_cut),
        cmocka_unit_test(test_every_changed_character_is_refused),
        cmocka_unit_test(test_swapped_characters_are_called_mistyped),
        cmocka_unit_test(test_other_versions_and_other_lines_are_named),
        cmocka_unit_test(test_hosts_that_would_change_an_endpoint_are_refused),
        cmocka_unit_test(test_a_very_long_line_is_refused),
        cmocka_unit_test(test_proof_binds_all_that_it_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
