/* test_keys: key files are private and made once, even by two processes at a time; damage is noticed. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/path.h"
#include "net/keys.h"
#include "tests/net/folder.h"

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void test_created_private_and_loaded_again(void **state)
{
    (void)state;
    struct keys a, b;
    struct error e;
    assert_int_equal(keys_load_or_create(&a, in_folder("deep/er"), &e), 0);
    assert_int_equal(mode_of(in_folder("deep/er")), 0700);
    assert_int_equal(mode_of(in_folder("deep/er/key")), 0600);
    assert_int_equal(keys_load_or_create(&b, in_folder("deep/er"), &e), 0);
    assert_memory_equal(&a, &b, sizeof(a));
    uint8_t signature[SIGNATURE_BYTES];
    crypto_sign_detached(signature, NULL, (const uint8_t *)"x", 1, a.sign_secret);
    assert_int_equal(crypto_sign_verify_detached(signature, (const uint8_t *)"x", 1, a.sign_public), 0);
    keys_wipe(&b);
    static const struct keys zero;
    assert_memory_equal(&b, &zero, sizeof(b));
}

static void test_keys_differ_each_time(void **state)
{
    (void)state;
    struct keys a, b;
    keys_generate(&a);
    keys_generate(&b);
    assert_memory_not_equal(a.public_key, b.public_key, KEY_BYTES);
    assert_memory_not_equal(a.secret_key, b.secret_key, KEY_BYTES);
    assert_memory_not_equal(a.sign_secret, b.sign_secret, SIGN_SECRET_BYTES);
}

static void test_refused_when_others_can_read(void **state)
{
    (void)state;
    struct keys k;
    struct error e;
    static const mode_t open_modes[] = {0640, 0604, 0660, 0602, 0601, 0610};
    assert_int_equal(keys_load_or_create(&k, in_folder("shown"), &e), 0);
    for (size_t i = 0; i < COUNTOF(open_modes); i++) {
        assert_int_equal(chmod(in_folder("shown/key"), open_modes[i]), 0);
        assert_int_equal(keys_load_or_create(&k, in_folder("shown"), &e), ERR_CONFIG);
        assert_non_null(strstr(e.text, "chmod 600"));
    }
    assert_int_equal(chmod(in_folder("shown/key"), 0400), 0);
    assert_int_equal(keys_load_or_create(&k, in_folder("shown"), &e), 0);
    assert_int_equal(chmod(in_folder("shown"), 0770), 0);
    assert_int_equal(keys_load_or_create(&k, in_folder("shown"), &e), ERR_CONFIG);
}

static void test_every_damage_is_noticed_and_nothing_is_replaced(void **state)
{
    (void)state;
    struct keys k;
    struct error e;
    char *bytes;
    size_t n;
    static const struct keys zero;
    assert_int_equal(keys_load_or_create(&k, in_folder("damaged"), &e), 0);
    char path[64];
    snprintf(path, sizeof(path), "%s/damaged/key", folder);
    assert_int_equal(path_read(path, 4096, &bytes, &n, &e), 0);
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= 1;
        assert_int_equal(path_write_atomic(path, bytes, n, 0600, &e), 0);
        /* A clamped bit of an X25519 secret changes nothing; it is the one harmless place. */
        bool clamped = i == 8 + KEY_BYTES;
        int r = keys_load_or_create(&k, in_folder("damaged"), &e);
        assert_int_equal(r, clamped ? 0 : ERR_CORRUPT);
        if (!clamped)
            assert_memory_equal(&k, &zero, sizeof(k));
        bytes[i] ^= 1;
    }
    for (size_t cut = 0; cut < n; cut += 13) {
        assert_int_equal(path_write_atomic(path, bytes, cut, 0600, &e), 0);
        assert_int_equal(keys_load_or_create(&k, in_folder("damaged"), &e), ERR_CORRUPT);
    }
    free(bytes);
}

static void test_what_is_no_file_is_refused(void **state)
{
    (void)state;
    struct keys k;
    struct error e;
    assert_int_equal(mkdir(in_folder("odd"), 0700), 0);
    assert_int_equal(mkfifo(in_folder("odd/key"), 0600), 0);
    assert_int_equal(keys_load_or_create(&k, in_folder("odd"), &e), ERR_CONFIG);
    assert_int_equal(path_write_atomic(in_folder("plain"), "", 0, 0600, &e), 0);
    assert_int_not_equal(keys_load_or_create(&k, in_folder("plain"), &e), 0);
}

/* A child creates or loads the keys of round `r` and writes its public key to `fd`. */
static void racer(int round, int start, int fd)
{
    struct keys k;
    char dir[32], go;
    snprintf(dir, sizeof(dir), "race%d", round);
    ssize_t n = read(start, &go, 1); /* ends when the parent closes its end: all start at once */
    bool ok = n == 0 && keys_load_or_create(&k, in_folder(dir), NULL) == 0 &&
              write(fd, k.public_key, KEY_BYTES) == KEY_BYTES;
    _exit(ok ? 0 : 1);
}

static void test_racing_creators_agree(void **state)
{
    (void)state;
    enum { ROUNDS = 10, RACERS = 4 };
    for (int round = 0; round < ROUNDS; round++) {
        int start[2], out[2];
        assert_int_equal(pipe(start), 0);
        assert_int_equal(pipe(out), 0);
        for (int i = 0; i < RACERS; i++) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                close(start[1]);
                racer(round, start[0], out[1]);
            }
        }
        close(start[0]);
        close(start[1]);
        uint8_t first[KEY_BYTES], key[KEY_BYTES];
        for (int i = 0; i < RACERS; i++) {
            int status;
            assert_true(wait(&status) > 0);
            assert_int_equal(status, 0);
            assert_int_equal(read(out[0], key, KEY_BYTES), KEY_BYTES);
            if (i == 0)
                memcpy(first, key, KEY_BYTES);
            assert_memory_equal(first, key, KEY_BYTES);
        }
        close(out[0]);
        close(out[1]);
    }
}

static void test_text_is_z85_and_comes_back(void **state)
{
    (void)state;
    /* ZeroMQ RFC 32's test key. */
    static const uint8_t known[KEY_BYTES] = {0x8E, 0x0B, 0xDD, 0x69, 0x76, 0x28, 0xB9, 0x1D, 0x8F, 0x24, 0x55,
                                             0x87, 0xEE, 0x95, 0xC5, 0xB0, 0x4D, 0x48, 0x96, 0x3F, 0x79, 0x25,
                                             0x98, 0x77, 0xB4, 0x9C, 0xD9, 0x06, 0x3A, 0xEA, 0xD3, 0xB7};
    static const char known_text[] = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";
    char text[KEY_TEXT_BYTES];
    uint8_t key[KEY_BYTES];
    keys_text(known, text);
    assert_string_equal(text, known_text);
    assert_true(keys_parse(known_text, key));
    assert_memory_equal(key, known, KEY_BYTES);
    static const char *const bad[] = {
        "", /* too short, too long, out of the alphabet, past 32 bits */
        "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh",
        "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh66",
        "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{L\x01\xff",
        "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni Lh6",
        "########################################",
    };
    for (size_t i = 0; i < COUNTOF(bad); i++)
        assert_false(keys_parse(bad[i], key));
}

static void test_fingerprint_is_eight_hex_digits_of_the_hash(void **state)
{
    (void)state;
    uint8_t key[KEY_BYTES] = {0};
    char a[9], b[9];
    keys_fingerprint(key, a);
    key[31] ^= 1;
    keys_fingerprint(key, b);
    assert_int_equal(strlen(a), 8);
    assert_int_equal(strspn(a, "0123456789abcdef"), 8);
    assert_string_not_equal(a, b);
}

static void test_init_forbids_core_dumps(void **state)
{
    (void)state;
    struct rlimit core;
    struct error e;
    assert_int_equal(keys_init(&e), 0);
    assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
    assert_int_equal(core.rlim_cur, 0);
    assert_int_equal(core.rlim_max, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_created_private_and_loaded_again),
        cmocka_unit_test(test_keys_differ_each_time),
        cmocka_unit_test(test_refused_when_others_can_read),
        cmocka_unit_test(test_every_damage_is_noticed_and_nothing_is_replaced),
        cmocka_unit_test(test_what_is_no_file_is_refused),
        cmocka_unit_test(test_racing_creators_agree),
        cmocka_unit_test(test_text_is_z85_and_comes_back),
        cmocka_unit_test(test_fingerprint_is_eight_hex_digits_of_the_hash),
        cmocka_unit_test(test_init_forbids_core_dumps),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
