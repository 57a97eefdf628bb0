/* download_lane: one request for one range, and what its end means.
 *
 * Whatever the server says, bytes only go where they were asked for: an answer
 * whose range is another, or that has more, is dropped.                       */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/download_state.h"

enum { NOTE_BYTES = 1 << 20, WRONG_MAX = 3 };

/* ---- an answer comes ---- */

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct lane *l = arg;
    char text[HTTP_ETAG_MAX + 1];
    uint64_t last;
    size_t n = size * count;
    if (http_header_is(line, n, "content-range", text, sizeof(text)))
        l->ranged = sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &l->from, &last, &l->total) == 3;
    else if (http_header_is(line, n, "etag", text, sizeof(text)))
        snprintf(l->etag, sizeof(l->etag), "%s", text);
    return n;
}

/* True when the answer is the range that was asked for, of the file that was begun. */
static bool begins_well(struct lane *l)
{
    struct download *d = l->d;
    long status = 0;
    curl_easy_getinfo(l->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200 && !d->no_ranges && (l->at != 0 || l->end != d->o->bytes)) {
        d->no_ranges = d->anew = true; /* the whole file comes, whatever is asked for */
        return false;
    }
    bool fits = status == 200 || (status == 206 && l->ranged && l->from == l->at && l->total == d->o->bytes);
    bool unchecked = d->o->wanted || !d->o->sha256; /* else the hash tells, and mirrors' etags may differ */
    if (fits && unchecked && l->etag[0] && d->etag[0] && strcmp(l->etag, d->etag) != 0) {
        d->status = error_set(d->e, ERR_CONFLICT, "%s changed at the server while it was fetched", d->o->path);
        return false;
    }
    if (fits)
        snprintf(d->etag, sizeof(d->etag), "%s", l->etag);
    l->wrong = !fits;
    return fits;
}

static bool write_all(struct download *d, const char *data, size_t n, uint64_t at)
{
    while (n > 0) {
        ssize_t done = pwrite(d->fd, data, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            d->status = error_set(d->e, ERR_IO, "cannot write %s: %s", d->o->path, strerror(errno));
            return false;
        }
        data += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return true;
}

static void note(struct lane *l)
{
    download_journal_note(l->d, l->noted, l->at - l->noted);
    spans_add(&l->d->have, l->noted, l->at - l->noted);
    l->noted = l->at;
}

static size_t on_bytes(char *data, size_t size, size_t count, void *arg)
{
    struct lane *l = arg;
    struct download *d = l->d;
    size_t n = size * count;
    long status = 0;
    curl_easy_getinfo(l->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 300)
        return n; /* an error's page */
    if (!l->begun && !begins_well(l))
        return 0;
    l->begun = true;
    if (n > l->end - l->at) {
        l->wrong = true;
        return 0;
    }
    if (!write_all(d, data, n, l->at))
        return 0;
    l->at += n;
    l->failures = 0;
    d->relocations = 0;
    d->done += n;
    if (l->at - l->noted >= NOTE_BYTES)
        note(l);
    return n;
}

/* ---- from start to end ---- */

void lane_start(struct lane *l)
{
    struct download *d = l->d;
    char range[64];
    l->begun = l->ranged = l->wrong = false;
    l->address = d->address;
    l->etag[0] = 0;
    http_client_prepare(d->o->client, l->curl, d->place.url);
    snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, l->at, l->end - 1);
    if (!d->no_ranges)
        curl_easy_setopt(l->curl, CURLOPT_RANGE, range);
    /* several streams of one connection would share its window */
    curl_easy_setopt(l->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(l->curl, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_easy_setopt(l->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(l->curl, CURLOPT_HEADERDATA, l);
    curl_easy_setopt(l->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(l->curl, CURLOPT_WRITEDATA, l);
    curl_easy_setopt(l->curl, CURLOPT_PRIVATE, l);
    curl_multi_add_handle(d->multi, l->curl);
    l->running = true;
}

void lane_drop(struct lane *l)
{
    if (!l->running)
        return;
    curl_multi_remove_handle(l->d->multi, l->curl);
    l->running = false;
    note(l);
}

/* Again, after a pause: of this lane, or of all when the server says so. */
static void fail(struct lane *l, CURLcode code, long status)
{
    struct download *d = l->d;
    curl_off_t asked = 0;
    curl_easy_getinfo(l->curl, CURLINFO_RETRY_AFTER, &asked);
    if (++l->failures >= (l->wrong ? WRONG_MAX : http_attempts(code))) {
        d->status = l->wrong ? error_set(d->e, ERR_CORRUPT, "%s: the server sends other bytes than were asked for",
                                         d->o->url)
                             : http_refused(d->place.url, code, status, d->e);
        return;
    }
    l->not_before_ms = clock_ms() + http_pause_ms(l->failures, asked > 0 ? (uint64_t)asked : 0);
    if (asked > 0 && l->not_before_ms > d->hold_until_ms)
        d->hold_until_ms = l->not_before_ms;
    if (d->no_ranges) { /* there is no going on */
        d->done = 0;
        l->at = l->noted = 0;
        spans_close(&d->have);
        hash_begin(d);
    }
}

/* Addresses outside the hub expire, and may lead on. */
static void relocate(struct download *d, const char *leads_to)
{
    struct http_place place;
    d->address++;
    if (++d->relocations > HTTP_HOPS_MAX) {
        d->status = error_set(d->e, ERR_UNAVAILABLE, "%s: the server leads from one address to the next", d->o->url);
    } else if (leads_to && !http_client_may_follow(d->o->client, leads_to)) {
        d->status = error_set(d->e, ERR_DENIED, "%s: leads to a place without encryption", d->o->url);
    } else if (leads_to) {
        mem_free(d->place.url);
        d->place.url = mem_strdup(leads_to);
    } else {
        d->status = http_client_locate(d->o->client, d->o->url, &place, d->e);
        if (d->status == 0) {
            mem_free(d->place.url);
            d->place.url = place.url;
        }
    }
}

void lane_ended(struct lane *l, CURLcode code)
{
    struct download *d = l->d;
    long status = 0;
    char *leads_to = NULL;
    lane_drop(l);
    curl_easy_getinfo(l->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(l->curl, CURLINFO_REDIRECT_URL, &leads_to);
    if (d->status != 0 || l->at == l->end || d->anew)
        return;
    bool other = !http_client_owns(d->o->client, d->place.url);
    bool stale = l->address != d->address; /* another lane found the way meanwhile */
    if (status >= 300 && (stale || (code == CURLE_OK && status < 400 && leads_to))) {
        if (!stale)
            relocate(d, leads_to);
    } else if (other && (status == 401 || status == 403 || status == 404 || status == 410))
        relocate(d, NULL);
    else if (l->wrong || status < 300 || http_may_pass(code, status))
        fail(l, code, status);
    else
        d->status = http_refused(d->place.url, code, status, d->e);
}
