/* keys: a table in memory under one lock, the database under another that no request takes. */
#include "coordinator/api/keys.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"

#define PREFIX "sk-shoal-"
enum { SECRET_BYTES = 32, MINUTE_US = 60 * 1000 * 1000 };

struct key {
    int64_t id, created;
    uint8_t hash[KEYS_HASH_BYTES];
    char name[KEYS_NAME_MAX + 1], label[KEYS_LABEL_BYTES];
    char *models;
    uint32_t rate, concurrency;
    uint32_t running; /* requests that hold it */
    uint64_t due_us;  /* when requests at an even pace would have used up what was taken */
    bool revoked;
    uint64_t found;   /* the look at the database that found it last */
    uint64_t requests, prompt_tokens, completion_tokens; /* that are not written yet */
};

struct keys {
    pthread_mutex_t lock; /* all but the database; taken after the database's when both are */
    pthread_cond_t wake;
    struct key *keys[KEYS_MAX];
    size_t n;
    bool locked, stopping;
    pthread_mutex_t db_lock;
    struct keys_db *db;
    uint64_t looks; /* at the database */
    pthread_t writer;
};

static void key_free(struct key *key)
{
    mem_free(key->models);
    mem_free(key);
}

static void add(struct keys *k, const struct keys_row *row)
{
    struct key *key = mem_alloc(sizeof(*key));
    key->id = row->id;
    key->created = row->created;
    key->rate = row->rate;
    key->concurrency = row->concurrency;
    memcpy(key->hash, row->hash, sizeof(key->hash));
    snprintf(key->name, sizeof(key->name), "%s", row->name);
    snprintf(key->label, sizeof(key->label), "%s", row->label);
    key->models = mem_strdup(row->models);
    key->found = k->looks;
    k->keys[k->n++] = key;
}

/* ---- what the database holds ---- */

/* More than fit were never written by us; those beyond open nothing. */
static void on_row(void *arg, const struct keys_row *row)
{
    struct keys *k = arg;
    size_t i = 0;
    pthread_mutex_lock(&k->lock);
    while (i < k->n && k->keys[i]->id != row->id)
        i++;
    if (i < k->n)
        k->keys[i]->found = k->looks;
    else if (k->n < KEYS_MAX)
        add(k, row);
    pthread_mutex_unlock(&k->lock);
}

/* The database's lock is held, or nobody else is there yet. Keys that it has no more are revoked. */
static int look(struct keys *k, struct error *e)
{
    bool ever = false;
    k->looks++;
    int rc = keys_db_ever(k->db, &ever, e);
    if (rc == 0)
        rc = keys_db_load(k->db, on_row, k, e);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&k->lock);
    k->locked = k->locked || ever;
    for (size_t i = 0; i < k->n; i++)
        k->keys[i]->revoked = k->keys[i]->revoked || k->keys[i]->found != k->looks;
    pthread_mutex_unlock(&k->lock);
    return 0;
}

/* The database's lock is held. */
static void look_again(struct keys *k)
{
    struct error e = { 0 };
    if (keys_db_changed(k->db) && look(k, &e) != 0)
        log_warn("api", "API keys that changed were not read: %s", e.text);
}

/* ---- the writer ---- */

/* Under the lock: what is to be written, into used[KEYS_MAX]; revoked keys that nobody holds are forgotten. */
static size_t collect(struct keys *k, const char *day, struct keys_used *used)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < k->n; i++) {
        struct key *key = k->keys[i];
        if (key->requests != 0 || key->prompt_tokens != 0 || key->completion_tokens != 0)
            used[n++] = (struct keys_used){ .key = key->id, .day = day, .requests = key->requests,
                                            .prompt_tokens = key->prompt_tokens,
                                            .completion_tokens = key->completion_tokens };
        key->requests = key->prompt_tokens = key->completion_tokens = 0;
        if (key->revoked && key->running == 0)
            key_free(key);
        else
            k->keys[kept++] = key;
    }
    k->n = kept;
    return n;
}

/* The database's lock is held. What cannot be written is lost, and said. */
static void write_usage(struct keys *k)
{
    struct keys_used *used = mem_array(KEYS_MAX, sizeof(*used));
    struct error e = { 0 };
    char day[sizeof("2026-01-31")];
    struct tm tm;
    time_t now = (time_t)clock_unix();
    strftime(day, sizeof(day), "%Y-%m-%d", gmtime_r(&now, &tm));
    pthread_mutex_lock(&k->lock);
    size_t n = collect(k, day, used);
    pthread_mutex_unlock(&k->lock);
    if (keys_db_count(k->db, used, n, &e) != 0)
        log_warn("api", "usage of API keys was not written: %s", e.text);
    mem_free(used);
}

static void *writer(void *arg)
{
    struct keys *k = arg;
    bool stopping = false;
    while (!stopping) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += KEYS_WRITE_S;
        pthread_mutex_lock(&k->lock);
        if (!k->stopping)
            pthread_cond_timedwait(&k->wake, &k->lock, &until);
        stopping = k->stopping;
        pthread_mutex_unlock(&k->lock);
        pthread_mutex_lock(&k->db_lock);
        write_usage(k);
        look_again(k);
        pthread_mutex_unlock(&k->db_lock);
    }
    return NULL;
}

/* ---- life ---- */

static void keys_free(struct keys *k)
{
    for (size_t i = 0; i < k->n; i++)
        key_free(k->keys[i]);
    keys_db_close(&k->db);
    pthread_cond_destroy(&k->wake);
    pthread_mutex_destroy(&k->lock);
    pthread_mutex_destroy(&k->db_lock);
    mem_free(k);
}

int keys_open(struct keys **out, const char *state_dir, struct error *e)
{
    if (sodium_init() < 0)
        return error_set(e, ERR_INTERNAL, "libsodium does not start");
    struct keys *k = mem_alloc(sizeof(*k));
    pthread_mutex_init(&k->lock, NULL);
    pthread_mutex_init(&k->db_lock, NULL);
    pthread_cond_init(&k->wake, NULL);
    int rc = keys_db_open(&k->db, state_dir, e);
    if (rc == 0)
        rc = look(k, e);
    if (rc == 0 && pthread_create(&k->writer, NULL, writer, k) != 0)
        rc = error_set(e, ERR_MEMORY, "no thread for the usage of API keys");
    if (rc != 0)
        keys_free(k);
    else
        *out = k;
    return rc;
}

void keys_close(struct keys **k_p)
{
    struct keys *k = *k_p;
    if (k == NULL)
        return;
    pthread_mutex_lock(&k->lock);
    k->stopping = true;
    pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->writer, NULL);
    keys_free(k);
    *k_p = NULL;
}

bool keys_locked(struct keys *k)
{
    pthread_mutex_lock(&k->lock);
    bool locked = k->locked;
    pthread_mutex_unlock(&k->lock);
    return locked;
}

/* ---- requests ---- */

/* Looks at every key, so that time does not tell which one came near. */
static struct key *find(struct keys *k, const char *text)
{
    uint8_t hash[KEYS_HASH_BYTES];
    struct key *found = NULL;
    if (strlen(text) != KEYS_TEXT_BYTES - 1)
        return NULL;
    crypto_generichash(hash, sizeof(hash), (const unsigned char *)text, KEYS_TEXT_BYTES - 1, NULL, 0);
    for (size_t i = 0; i < k->n; i++)
        if (sodium_memcmp(hash, k->keys[i]->hash, sizeof(hash)) == 0 && !k->keys[i]->revoked)
            found = k->keys[i];
    return found;
}

/* A minute's requests may come at once; after that at an even pace. */
static int admit(struct key *key, uint32_t *retry_s, struct error *e)
{
    uint64_t now = clock_us();
    *retry_s = 1;
    if (key->concurrency != 0 && key->running >= key->concurrency)
        return error_set(e, ERR_BUSY, "This API key may have %u requests at once, and has.", key->concurrency);
    if (key->rate != 0) {
        uint64_t step = MINUTE_US / key->rate, due = key->due_us > now ? key->due_us : now;
        uint64_t room = MINUTE_US - step;
        if (due - now > room) {
            *retry_s = (uint32_t)((due - now - room) / 1000000) + 1;
            return error_set(e, ERR_BUSY, "This API key may make %u requests a minute, and has.", key->rate);
        }
        key->due_us = due + step;
    }
    key->running++;
    key->requests++;
    return 0;
}

int keys_take(struct keys *k, const char *text, struct key **out, uint32_t *retry_s, struct error *e)
{
    pthread_mutex_lock(&k->lock);
    struct key *key = find(k, text);
    int rc = key == NULL ? error_set(e, ERR_DENIED, "no such key") : 0;
    if (rc == 0 && out != NULL)
        rc = admit(key, retry_s, e);
    if (rc == 0 && out != NULL)
        *out = key;
    pthread_mutex_unlock(&k->lock);
    return rc;
}

void keys_release(struct keys *k, struct key *key)
{
    pthread_mutex_lock(&k->lock);
    key->running--;
    pthread_mutex_unlock(&k->lock);
}

int64_t keys_id(const struct key *key)
{
    return key->id; /* never changes */
}

int64_t keys_whose(struct keys *k, const char *text)
{
    pthread_mutex_lock(&k->lock);
    const struct key *key = find(k, text);
    int64_t id = key == NULL ? 0 : key->id;
    pthread_mutex_unlock(&k->lock);
    return id;
}

bool keys_allows(const struct key *key, const char *model)
{
    size_t n = strlen(model);
    const char *p = key->models; /* never changes */
    if (*p == '\0')
        return true;
    for (; *p != '\0'; p += strcspn(p, "\n") + 1)
        if (strcspn(p, "\n") == n && memcmp(p, model, n) == 0)
            return true;
    return false;
}

void keys_count(struct keys *k, struct key *key, uint64_t prompt_tokens, uint64_t completion_tokens)
{
    pthread_mutex_lock(&k->lock);
    key->prompt_tokens += prompt_tokens;
    key->completion_tokens += completion_tokens;
    pthread_mutex_unlock(&k->lock);
}

/* ---- the operator ---- */

/* Both locks are held, the database's for the whole of the change. */
static int create(struct keys *k, struct keys_row *row, struct error *e)
{
    pthread_mutex_lock(&k->lock);
    bool full = k->n == KEYS_MAX;
    pthread_mutex_unlock(&k->lock);
    if (full)
        return error_set(e, ERR_LIMIT, "there are %d keys, which is the most", (int)KEYS_MAX);
    int rc = keys_db_add(k->db, row, e);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&k->lock);
    add(k, row);
    k->locked = true;
    pthread_mutex_unlock(&k->lock);
    return 0;
}

int keys_create(struct keys *k, const struct keys_row *wanted, char text[static KEYS_TEXT_BYTES], struct error *e)
{
    struct keys_row row = *wanted;
    uint8_t secret[SECRET_BYTES], hash[KEYS_HASH_BYTES];
    char label[KEYS_LABEL_BYTES];
    if (!keys_name_ok(row.name))
        return error_set(e, ERR_INVALID, "a key's name has 1 to %d letters, digits, dots, dashes and underscores, and "
                         "does not start as a key does", (int)KEYS_NAME_MAX);
    randombytes_buf(secret, sizeof(secret));
    memcpy(text, PREFIX, sizeof(PREFIX));
    sodium_bin2base64(text + strlen(PREFIX), KEYS_TEXT_BYTES - strlen(PREFIX), secret, sizeof(secret),
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(secret, sizeof(secret));
    crypto_generichash(hash, sizeof(hash), (const unsigned char *)text, KEYS_TEXT_BYTES - 1, NULL, 0);
    snprintf(label, sizeof(label), "%.*s", (int)sizeof(label) - 1, text);
    row.label = label;
    row.hash = hash;
    row.created = clock_unix();
    pthread_mutex_lock(&k->db_lock);
    int rc = create(k, &row, e);
    pthread_mutex_unlock(&k->db_lock);
    return rc;
}

/* No name is like a label. */
static struct key *find_named(struct keys *k, const char *who)
{
    for (size_t i = 0; i < k->n; i++) {
        struct key *key = k->keys[i];
        if (!key->revoked && (strcmp(key->name, who) == 0 || strcmp(key->label, who) == 0))
            return key;
    }
    return NULL;
}

int keys_revoke(struct keys *k, const char *who, struct error *e)
{
    pthread_mutex_lock(&k->db_lock); /* while it is held no key is freed */
    pthread_mutex_lock(&k->lock);
    struct key *key = find_named(k, who);
    pthread_mutex_unlock(&k->lock);
    int rc = key == NULL ? error_set(e, ERR_NOT_FOUND, "no API key is called \"%.64s\"", who)
                         : keys_db_revoke(k->db, key->id, e);
    if (rc == 0) {
        pthread_mutex_lock(&k->lock);
        key->revoked = true;
        pthread_mutex_unlock(&k->lock);
    }
    pthread_mutex_unlock(&k->db_lock);
    return rc;
}

static json_t *models_json(const char *models)
{
    json_t *list = json_array();
    for (const char *p = models; *p != '\0'; p += strcspn(p, "\n") + 1)
        json_array_append_new(list, json_stringn(p, strcspn(p, "\n")));
    return list;
}

json_t *keys_list(struct keys *k)
{
    json_t *list = json_array();
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < k->n; i++) {
        const struct key *key = k->keys[i];
        if (!key->revoked)
            json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I, s:o, s:I, s:I}", "name", key->name, "label",
                                  key->label, "rate_per_minute", (json_int_t)key->rate, "concurrency",
                                  (json_int_t)key->concurrency, "models", models_json(key->models), "created",
                                  (json_int_t)key->created, "running", (json_int_t)key->running));
    }
    pthread_mutex_unlock(&k->lock);
    return list;
}

static void on_used(void *arg, const struct keys_used *u)
{
    json_array_append_new(arg, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "day", u->day, "name", u->name, "label",
                          u->label, "requests", (json_int_t)u->requests, "prompt_tokens",
                          (json_int_t)u->prompt_tokens, "completion_tokens", (json_int_t)u->completion_tokens));
}

int keys_usage(struct keys *k, json_t **out, struct error *e)
{
    *out = json_array();
    pthread_mutex_lock(&k->db_lock);
    write_usage(k);
    int rc = keys_db_usage(k->db, on_used, *out, e);
    pthread_mutex_unlock(&k->db_lock);
    if (rc != 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}
