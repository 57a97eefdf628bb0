/* download: lanes take the lowest bytes that nobody has, until none are left. */
#include "net/download.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/download_state.h"

enum { POLL_MS = 50, SYNC_MS = 5000, PIECE_UNIT = 1 << 20 };

/* ---- what is left to do ---- */

static size_t wanted_count(const struct download_options *o)
{
    return o->wanted ? o->n_wanted : 1;
}

static struct span wanted_at(const struct download_options *o, size_t i)
{
    return o->wanted ? o->wanted[i] : (struct span){0, o->bytes};
}

static uint64_t count_missing(const struct download_options *o, const struct spans *have)
{
    uint64_t sum = 0;
    struct span gap;
    for (size_t i = 0; i < wanted_count(o); i++) {
        struct span w = wanted_at(o, i);
        for (uint64_t at = w.offset; spans_missing(have, at, w.offset + w.bytes, &gap); at = gap.offset + gap.bytes)
            sum += gap.bytes;
    }
    return sum;
}

static uint64_t count_wanted(const struct download_options *o)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < wanted_count(o); i++)
        sum += wanted_at(o, i).bytes;
    return sum;
}

/* One piece a lane where the file is small, and few pieces where it is huge. */
static uint64_t piece_bytes(const struct download *d)
{
    uint64_t share = d->o->bytes / d->n_lanes + 1, least = d->o->bytes >> 14;
    share += (PIECE_UNIT - share % PIECE_UNIT) % PIECE_UNIT;
    share = share > DOWNLOAD_PIECE_BYTES ? DOWNLOAD_PIECE_BYTES : share;
    return share > least ? share : least;
}

/* The lowest bytes that nobody has become the lane's. */
static bool claim(struct download *d, struct lane *l)
{
    struct span gap;
    for (size_t i = 0; i < wanted_count(d->o); i++) {
        struct span w = wanted_at(d->o, i);
        if (!spans_missing(&d->claimed, w.offset, w.offset + w.bytes, &gap))
            continue;
        uint64_t most = d->no_ranges ? gap.bytes : piece_bytes(d);
        l->at = l->noted = gap.offset;
        l->end = gap.offset + (gap.bytes < most ? gap.bytes : most);
        spans_add(&d->claimed, l->at, l->end - l->at);
        return true;
    }
    return false;
}

/* ---- the loop ---- */

/* The server gives the whole or nothing: what came is dropped, and one lane takes all. */
static void begin_without_ranges(struct download *d)
{
    d->anew = false;
    for (unsigned i = 0; i < d->n_lanes; i++) {
        lane_drop(&d->lanes[i]);
        d->lanes[i].at = d->lanes[i].end = d->lanes[i].noted = 0;
    }
    if (d->o->wanted) {
        d->status = error_set(d->e, ERR_UNSUPPORTED, "%s: the server gives no parts of files", d->o->url);
        return;
    }
    spans_close(&d->have);
    spans_close(&d->claimed);
    d->n_lanes = 1;
    d->done = 0;
    d->resumed = false;
    hash_begin(d);
    d->status = download_journal_start(d, d->e);
}

/* False: no lane has anything left. */
static bool start_lanes(struct download *d)
{
    bool busy = false;
    uint64_t now = clock_ms();
    for (unsigned i = 0; i < d->n_lanes; i++) {
        struct lane *l = &d->lanes[i];
        if (l->at == l->end && !claim(d, l))
            continue;
        busy = true;
        if (!l->running && now >= l->not_before_ms && now >= d->hold_until_ms)
            lane_start(l);
    }
    return busy;
}

static void end_lanes(struct download *d)
{
    int queued;
    CURLMsg *m;
    while ((m = curl_multi_info_read(d->multi, &queued))) {
        char *lane = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &lane);
        lane_ended((struct lane *)(void *)lane, code);
    }
}

static void run(struct download *d)
{
    while (d->status == 0 && start_lanes(d)) {
        int running;
        if (curl_multi_perform(d->multi, &running) != CURLM_OK)
            d->status = error_set(d->e, ERR_INTERNAL, "libcurl cannot go on");
        end_lanes(d);
        if (d->status == 0 && d->anew)
            begin_without_ranges(d);
        if (http_client_stopped(d->o->client))
            d->status = error_set(d->e, ERR_CANCELLED, "stopped; the same command goes on from there");
        if (clock_ms() - d->synced_ms >= SYNC_MS)
            download_journal_sync(d);
        if (d->o->progress)
            d->o->progress(d->o->arg, d->done);
        bool more = hash_some(d);
        if (d->status == 0)
            (void)curl_multi_poll(d->multi, NULL, 0, more ? 0 : POLL_MS, NULL);
    }
    for (unsigned i = 0; i < d->n_lanes; i++)
        lane_drop(&d->lanes[i]);
}

/* ---- one time through ---- */

static int open_file(struct download *d, struct error *e)
{
    const char *path = d->o->path;
    struct stat st;
    d->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (d->fd < 0 || fstat(d->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return error_set(e, ERR_IO, "cannot write %s: %s", path, d->fd < 0 ? strerror(errno) : "it is no file");
    if (flock(d->fd, LOCK_EX | LOCK_NB) != 0)
        return error_set(e, ERR_CONFLICT, "%s: another process is fetching it", path);
    return 0;
}

static int place_file(struct download *d, struct error *e)
{
    int r = http_client_locate(d->o->client, d->o->url, &d->place, e);
    if (r == 0 && d->place.bytes != UINT64_MAX && d->place.bytes != d->o->bytes)
        r = error_set(e, ERR_CORRUPT, "%s: has %" PRIu64 " bytes, and %" PRIu64 " by the server's own list", d->o->url,
                      d->place.bytes, d->o->bytes);
    return r;
}

static int open_lanes(struct download *d, struct error *e)
{
    d->multi = curl_multi_init();
    d->n_lanes = d->o->connections < 1 ? 1 : d->o->connections;
    if (d->n_lanes > DOWNLOAD_CONNECTIONS_MAX)
        d->n_lanes = DOWNLOAD_CONNECTIONS_MAX;
    for (unsigned i = 0; i < d->n_lanes; i++) {
        d->lanes[i].d = d;
        d->lanes[i].curl = curl_easy_init();
        if (!d->multi || !d->lanes[i].curl)
            return error_set(e, ERR_MEMORY, "libcurl cannot start");
    }
    return 0;
}

/* Everything that is not there yet, and the hash; ERR_CORRUPT with *wrong where that is another. */
static int fetch(struct download *d, bool *wrong, struct error *e)
{
    d->total = count_wanted(d->o);
    d->done = d->total - count_missing(d->o, &d->have);
    d->resumed = d->done > 0;
    spans_close(&d->claimed);
    for (size_t i = 0; i < d->have.n; i++)
        spans_add(&d->claimed, d->have.at[i].offset, d->have.at[i].bytes);
    hash_begin(d);
    d->status = ftruncate(d->fd, (off_t)d->o->bytes) == 0 ? download_journal_start(d, e)
                    : error_set(e, ERR_IO, "no room for %s: %s", d->o->path, strerror(errno));
    if (d->status == 0)
        run(d);
    while (d->status == 0 && hash_some(d))
        if (http_client_stopped(d->o->client))
            d->status = error_set(e, ERR_CANCELLED, "stopped; the same command goes on from there");
    *wrong = d->status == 0 && d->o->sha256 && !d->o->wanted && !hash_is_right(d);
    if (*wrong)
        return error_set(e, ERR_CORRUPT, "%s: its SHA-256 is not what the server said: thrown away", d->o->path);
    if (d->status == 0 && fdatasync(d->fd) != 0) { /* what the disk lost, memory may still show */
        d->status = error_set(e, ERR_IO, "cannot write %s: %s", d->o->path, strerror(errno));
        download_journal_close(d);
        download_forget(d->o->path);
    }
    if (d->status == 0 && !d->o->wanted)
        download_journal_checked(d);
    download_journal_sync(d);
    return d->status;
}

static int fetch_right(struct download *d, struct error *e)
{
    bool wrong, resumed;
    int r = fetch(d, &wrong, e);
    resumed = d->resumed;
    for (int again = 0; wrong && again < 2; again++) {
        spans_close(&d->have);
        download_journal_close(d);
        download_forget(d->o->path);
        if (ftruncate(d->fd, 0) != 0 || again == 1 || !resumed)
            break;
        r = fetch(d, &wrong, e); /* what was from before may have been at fault */
    }
    return r;
}

static void close_all(struct download *d)
{
    for (unsigned i = 0; i < DOWNLOAD_CONNECTIONS_MAX; i++)
        curl_easy_cleanup(d->lanes[i].curl);
    curl_multi_cleanup(d->multi);
    download_journal_close(d);
    if (d->fd >= 0)
        close(d->fd);
    spans_close(&d->have);
    spans_close(&d->claimed);
    http_place_close(&d->place);
    mem_free(d->hash_bytes);
    mem_free(d);
}

static struct download *begin(const struct download_options *o, struct error *e)
{
    struct download *d = mem_alloc(sizeof(*d));
    *d = (struct download){.o = o, .fd = -1, .journal = -1, .e = e};
    return d;
}

int download(const struct download_options *o, struct error *e)
{
    if (o->bytes > DOWNLOAD_BYTES_MAX)
        return error_set(e, ERR_LIMIT, "%s: is too large", o->url);
    struct download *d = begin(o, e);
    bool checked = false;
    int r = open_file(d, e);
    if (r == 0 && o->sha256)
        download_journal_load(d, &checked);
    if (r == 0 && !checked && (!o->sha256 || count_missing(o, &d->have) > 0 || !o->wanted))
        r = place_file(d, e);
    if (r == 0 && !checked && !o->sha256)
        download_journal_load(d, &checked);
    if (r == 0 && !checked && count_missing(o, &d->have) == 0 && o->wanted)
        checked = true;
    if (r == 0 && !checked)
        r = open_lanes(d, e);
    if (r == 0 && !checked)
        r = fetch_right(d, e);
    close_all(d);
    return r;
}

uint64_t download_left(const struct download_options *o)
{
    struct download *d = begin(o, NULL);
    bool checked;
    uint64_t have = 0;
    if (o->sha256) {
        download_journal_load(d, &checked);
        have = count_wanted(o) - count_missing(o, &d->have);
    }
    close_all(d);
    return have;
}
