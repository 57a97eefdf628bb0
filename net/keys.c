/* keys: a fixed binary file of both key pairs, written once and never replaced.
 *
 * File: magic "SHLKEY1\n", then the public and secret CURVE keys and the public
 * and secret signing keys.  Public halves are derived again when it is read, so
 * that a damaged file is noticed.  A new file appears under its name by link(),
 * which fails when the name is taken: of two processes that create keys at
 * once, the second loads what the first wrote.                               */
#include "net/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/memory.h"
#include "base/path.h"

enum { MAGIC_BYTES = 8, FILE_BYTES = MAGIC_BYTES + 2 * KEY_BYTES + SIGN_PUBLIC_BYTES + SIGN_SECRET_BYTES };
static const char magic[MAGIC_BYTES + 1] = "SHLKEY1\n";

_Static_assert(sizeof(struct keys) == FILE_BYTES - MAGIC_BYTES, "a key file is the magic and the struct");
_Static_assert(crypto_box_PUBLICKEYBYTES == KEY_BYTES && crypto_box_SECRETKEYBYTES == KEY_BYTES, "X25519");
_Static_assert(crypto_sign_SECRETKEYBYTES == SIGN_SECRET_BYTES && crypto_sign_BYTES == SIGNATURE_BYTES, "Ed25519");

int keys_init(struct error *e)
{
    if (sodium_init() < 0)
        return error_set(e, ERR_INTERNAL, "libsodium cannot be initialised: no source of random numbers");
    if (zmq_has("curve") == 0)
        return error_set(e, ERR_CONFIG, "this libzmq was built without CURVE encryption");
    /* libzmq keeps copies of secret keys in plain memory; no core dump and no debugger of the same user
     * shall show them.  A leak checker attaches like a debugger. */
    struct rlimit none = {0, 0};
    bool ok = setrlimit(RLIMIT_CORE, &none) == 0;
#ifndef __SANITIZE_ADDRESS__
    ok = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && ok;
#endif
    return ok ? 0 : error_set(e, ERR_INTERNAL, "core dumps cannot be switched off: %s", strerror(errno));
}

void keys_generate(struct keys *k)
{
    crypto_box_keypair(k->public_key, k->secret_key);
    crypto_sign_keypair(k->sign_public, k->sign_secret);
}

void keys_wipe(struct keys *k)
{
    sodium_memzero(k, sizeof(*k));
}

/* Do the public halves belong to the secret ones? */
static bool keys_agree(const struct keys *k)
{
    uint8_t box_public[KEY_BYTES], sign_public[SIGN_PUBLIC_BYTES], sign_secret[SIGN_SECRET_BYTES];
    bool ok = crypto_scalarmult_base(box_public, k->secret_key) == 0 &&
              memcmp(box_public, k->public_key, sizeof(box_public)) == 0;
    crypto_sign_seed_keypair(sign_public, sign_secret, k->sign_secret); /* a secret key begins with its seed */
    ok = ok && memcmp(sign_public, k->sign_public, sizeof(sign_public)) == 0 &&
         sodium_memcmp(sign_secret, k->sign_secret, sizeof(sign_secret)) == 0;
    sodium_memzero(sign_secret, sizeof(sign_secret));
    return ok;
}

static int check_file(int fd, const char *path, struct error *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return error_set(e, ERR_IO, "cannot examine %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(e, ERR_CONFIG, "%s is not a regular file", path);
    if (st.st_uid != geteuid())
        return error_set(e, ERR_CONFIG, "%s belongs to another user", path);
    if (st.st_mode & 077)
        return error_set(e, ERR_CONFIG, "%s can be read by others; if no one has, make it private: chmod 600 %s", path,
                         path);
    return 0;
}

/* One read takes it all: the file is shorter than any file system's block. */
static int read_file(struct keys *k, int fd, const char *path, struct error *e)
{
    uint8_t bytes[FILE_BYTES + 1];
    ssize_t n = read(fd, bytes, sizeof(bytes));
    int r = 0;
    if (n < 0)
        r = error_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    else if (n != FILE_BYTES || memcmp(bytes, magic, MAGIC_BYTES) != 0)
        r = error_set(e, ERR_CORRUPT, "%s is not a key file; remove it to get new keys", path);
    else
        memcpy(k, bytes + MAGIC_BYTES, sizeof(*k));
    sodium_memzero(bytes, sizeof(bytes));
    if (r == 0 && !keys_agree(k))
        r = error_set(e, ERR_CORRUPT, "%s is damaged; remove it to get new keys", path);
    return r;
}

static int load(struct keys *k, const char *path, struct error *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open %s: %s", path, strerror(errno));
    int r = check_file(fd, path, e);
    if (r == 0)
        r = read_file(k, fd, path, e);
    close(fd);
    return r;
}

/* Writes new keys under a name of their own, then gives them the name `path` unless that is taken. */
static int create(const char *path, struct error *e)
{
    struct keys k;
    uint8_t bytes[FILE_BYTES], number[8];
    char hex[2 * sizeof(number) + 1];
    keys_generate(&k);
    memcpy(bytes, magic, MAGIC_BYTES);
    memcpy(bytes + MAGIC_BYTES, &k, sizeof(k));
    randombytes_buf(number, sizeof(number));
    sodium_bin2hex(hex, sizeof(hex), number, sizeof(number));
    char *temp = mem_printf("%s.%s", path, hex);
    int r = path_write_atomic(temp, bytes, sizeof(bytes), 0600, e);
    if (r == 0 && link(temp, path) != 0 && errno != EEXIST)
        r = error_set(e, ERR_IO, "cannot create %s: %s", path, strerror(errno));
    unlink(temp);
    mem_free(temp);
    sodium_memzero(bytes, sizeof(bytes));
    keys_wipe(&k);
    return r;
}

static int check_folder(const char *dir, struct error *e)
{
    struct stat st;
    if (stat(dir, &st) != 0)
        return error_set(e, ERR_IO, "cannot examine %s: %s", dir, strerror(errno));
    if (st.st_mode & 022)
        return error_set(e, ERR_CONFIG, "others can write into %s, where keys are kept: chmod 700 %s", dir, dir);
    return 0;
}

int keys_load_or_create(struct keys *k, const char *dir, struct error *e)
{
    memset(k, 0, sizeof(*k));
    int r = path_make_dirs(dir, 0700, e);
    if (r == 0)
        r = check_folder(dir, e);
    if (r != 0)
        return r;
    char *path = path_join(dir, "key");
    r = load(k, path, e);
    if (r == ERR_NOT_FOUND) {
        r = create(path, e);
        if (r == 0)
            r = load(k, path, e);
    }
    mem_free(path);
    if (r != 0)
        keys_wipe(k);
    return r;
}

void keys_text(const uint8_t key[KEY_BYTES], char text[static KEY_TEXT_BYTES])
{
    zmq_z85_encode(text, key, KEY_BYTES);
}

bool keys_parse(const char *text, uint8_t key[KEY_BYTES])
{
    return strnlen(text, KEY_TEXT_BYTES) == KEY_TEXT_BYTES - 1 && zmq_z85_decode(key, text) != NULL;
}

void keys_fingerprint(const uint8_t key[KEY_BYTES], char text[static 9])
{
    uint8_t hash[16];
    crypto_generichash(hash, sizeof(hash), key, KEY_BYTES, NULL, 0);
    sodium_bin2hex(text, 9, hash, 4);
}
