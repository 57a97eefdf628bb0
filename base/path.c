/* path: whole files in and out, atomically and with a cap. */
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static const char *home_dir(void)
{
    const char *home = getenv("HOME");
    if (home && home[0] == '/')
        return home;
    const struct passwd *pw = getpwuid(getuid());
    return pw && pw->pw_dir ? pw->pw_dir : "/";
}

static char *house_dir(const char *own, const char *xdg, const char *below_home)
{
    const char *v = getenv(own);
    if (v && v[0])
        return mem_strdup(v);
    v = getenv(xdg);
    if (v && v[0] == '/')
        return path_join(v, "shoal");
    return mem_printf("%s/%s/shoal", home_dir(), below_home);
}

char *path_state_dir(void)
{
    return house_dir("SHOAL_STATE_DIR", "XDG_STATE_HOME", ".local/state");
}

char *path_cache_dir(void)
{
    return house_dir("SHOAL_CACHE_DIR", "XDG_CACHE_HOME", ".cache");
}

char *path_models_dir(void)
{
    const char *v = getenv("SHOAL_MODELS_DIR");
    if (v && v[0])
        return mem_strdup(v);
    v = getenv("XDG_DATA_HOME");
    if (v && v[0] == '/')
        return path_join(v, "shoal/models");
    return mem_printf("%s/.local/share/shoal/models", home_dir());
}

char *path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    return mem_printf("%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
}

int path_make_dirs(const char *path, mode_t mode, struct error *e)
{
    char *copy = mem_strdup(path);
    int r = 0;
    for (char *p = copy[0] ? copy + 1 : copy; r == 0; p++) {
        if (*p != '/' && *p != 0)
            continue;
        char end = *p;
        *p = 0;
        if (mkdir(copy, mode) != 0 && errno != EEXIST)
            r = error_set(e, ERR_IO, "cannot make the folder %s: %s", copy, strerror(errno));
        *p = end;
        if (end == 0)
            break;
    }
    struct stat st;
    if (r == 0 && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)))
        r = error_set(e, ERR_IO, "%s is not a folder", path);
    mem_free(copy);
    return r;
}

/* Reads to the end or to bytes_max + 1, whichever comes first. */
static int read_all(int fd, const char *path, size_t bytes_max, char **data, size_t *len, struct error *e)
{
    size_t cap = 64 << 10, n = 0;
    char *bytes = mem_alloc(cap + 1);
    for (;;) {
        if (n == cap) {
            cap *= 2;
            bytes = mem_resize(bytes, cap + 1, 1);
        }
        ssize_t got = read(fd, bytes + n, cap - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            mem_free(bytes);
            return error_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno));
        }
        if (got == 0)
            break;
        n += (size_t)got;
        if (n > bytes_max) {
            mem_free(bytes);
            return error_set(e, ERR_LIMIT, "%s is larger than %zu bytes", path, bytes_max);
        }
    }
    bytes[n] = 0;
    *data = bytes;
    *len = n;
    return 0;
}

int path_read(const char *path, size_t bytes_max, char **data, size_t *len, struct error *e)
{
    *data = NULL;
    *len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open %s: %s", path, strerror(errno));
    struct stat st;
    int r;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        r = error_set(e, ERR_INVALID, "%s is not a regular file", path);
    else
        r = read_all(fd, path, bytes_max, data, len, e);
    close(fd);
    return r;
}

static int write_and_sync(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return fsync(fd);
}

static void sync_parent(const char *path)
{
    char *dir = mem_strdup(path);
    char *slash = strrchr(dir, '/');
    if (slash)
        *(slash == dir ? slash + 1 : slash) = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    mem_free(dir);
}

/* A device or a pipe, which takes bytes but no other file's place. */
static bool takes_bytes(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode));
}

static int write_into(const char *path, const void *data, size_t len, struct error *e)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
    bool ok = fd >= 0 && (write_and_sync(fd, data, len) == 0 || errno == EINVAL); /* such have nothing to sync */
    int saved = errno;
    if (fd >= 0)
        close(fd);
    return ok ? 0 : error_set(e, ERR_IO, "cannot write %s: %s", path, strerror(saved));
}

int path_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct error *e)
{
    if (takes_bytes(path))
        return write_into(path, data, len, e);
    char *temp = mem_printf("%s.XXXXXX.part", path); /* new for every call: threads may write one path */
    int r = 0;
    int fd = mkostemps(temp, (int)strlen(".part"), O_CLOEXEC);
    if (fd < 0) {
        r = error_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
        mem_free(temp);
        return r;
    }
    bool ok = fchmod(fd, mode) == 0 && write_and_sync(fd, data, len) == 0;
    int saved = errno;
    ok = close(fd) == 0 && ok;
    if (ok && rename(temp, path) != 0) {
        saved = errno;
        ok = false;
    }
    if (!ok) {
        unlink(temp);
        r = error_set(e, ERR_IO, "cannot write %s: %s", path, strerror(saved));
    } else {
        sync_parent(path);
    }
    mem_free(temp);
    return r;
}

bool path_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool path_exists(const char *path)
{
    return access(path, F_OK) == 0;
}
