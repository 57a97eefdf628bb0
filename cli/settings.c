/* settings: gather raw texts by precedence, then check and convert every one of them once. */
#include "cli/settings.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/settings_rows.h"

enum source { FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_FLAG };

struct value {
    const struct setting *row; /* NULL: not of this command */
    char *text;
    enum source source;
    char where[66]; /* for people: "--kv-type", "SHOAL_KV_TYPE", "line 3" */
    double number;
    uint64_t count;
    uint32_t *list;
    size_t n_list;
    char **texts;
    size_t n_texts;
};

struct settings {
    enum command_bit command;
    struct value *values; /* one a row of the table */
    char *arguments[SETTINGS_ARGUMENTS_MAX];
    size_t n_arguments;
    char *file;
};

enum { LONG_BASE = 1000, HELP = LONG_BASE - 1 }; /* getopt's values of flags without a letter */

/* "kv_type" -> "kv-type" or "SHOAL_KV_TYPE". */
static void spell(const char *key, bool environment, char out[static 64])
{
    int n = snprintf(out, 64, "%s%s", environment ? "SHOAL_" : "", key);
    for (int i = 0; i < n && i < 63; i++)
        out[i] = environment ? (char)toupper((unsigned char)out[i]) : (char)(out[i] == '_' ? '-' : out[i]);
}

static void put(struct value *v, const char *text, enum source source, const char *where)
{
    if (v->text && v->source > source)
        return;
    bool more = v->text && v->source == source && v->row && v->row->kind == SETTING_TEXTS;
    char *whole = more ? mem_printf("%s,%s", v->text, text) : mem_strdup(text);
    mem_free(v->text);
    v->text = whole;
    v->source = source;
    snprintf(v->where, sizeof(v->where), "%s", where);
}

static struct value *find(const struct settings *s, const char *key)
{
    for (size_t i = 0; i < setting_row_count; i++)
        if (s->values[i].row && strcmp(setting_rows[i].key, key) == 0)
            return &s->values[i];
    return NULL;
}

/* ---- checking ---- */

static int bad_number(const struct value *v, struct error *e)
{
    const struct setting *r = v->row;
    const char *kind = r->kind == SETTING_REAL ? "a number" : r->kind == SETTING_BYTES ? "a size" : "a whole number";
    return error_set(e, ERR_INVALID, "%s: \"%.80s\" is not %s from %.15g to %.15g", v->where, v->text, kind, r->min,
                     r->max);
}

static bool parse_whole(const char *text, const char **end, double *out)
{
    char *stop;
    errno = 0;
    unsigned long long n = strtoull(text, &stop, 10);
    *end = stop;
    *out = (double)n;
    return isdigit((unsigned char)text[0]) && errno == 0;
}

/* "1.5GiB", "512 MB", "4G": binary units with an i or a bare letter, decimal ones with a B. */
static bool parse_bytes(const char *text, double *out)
{
    static const char letters[] = "kMGTP";
    char *end;
    double n = strtod(text, &end);
    if (end == text || !isfinite(n) || n < 0)
        return false;
    while (*end == ' ')
        end++;
    const char *letter = *end ? strchr(letters, *end == 'K' ? 'k' : *end) : NULL;
    if (letter) {
        bool decimal = strcmp(end + 1, "B") == 0;
        if (!decimal && end[1] != '\0' && strcmp(end + 1, "iB") != 0)
            return false;
        n *= pow(decimal ? 1000 : 1024, (double)(letter - letters + 1));
    } else if (*end != '\0' && strcmp(end, "B") != 0) {
        return false;
    }
    *out = n;
    return true;
}

static int parse_list(struct value *v, struct error *e)
{
    const char *at = v->text;
    while (*at) {
        double n;
        if (v->n_list >= SETTINGS_LIST_MAX)
            return error_set(e, ERR_LIMIT, "%s: more than %d numbers", v->where, SETTINGS_LIST_MAX);
        if (!parse_whole(at, &at, &n) || n < v->row->min || n > v->row->max || (*at != ',' && *at != '\0'))
            return bad_number(v, e);
        v->list = mem_resize(v->list, v->n_list + 1, sizeof(*v->list));
        v->list[v->n_list++] = (uint32_t)n;
        if (*at == ',' && *++at == '\0')
            return bad_number(v, e);
    }
    return v->n_list ? 0 : bad_number(v, e);
}

static int parse_texts(struct value *v, struct error *e)
{
    for (const char *at = v->text; *at;) {
        size_t n = strcspn(at, ",");
        if (v->n_texts == SETTINGS_ARGUMENTS_MAX)
            return error_set(e, ERR_LIMIT, "%s: given more than %d times", v->where, SETTINGS_ARGUMENTS_MAX);
        if (n == 0)
            return error_set(e, ERR_INVALID, "%s: one of the texts of \"%.80s\" is empty", v->where, v->text);
        v->texts = mem_resize(v->texts, v->n_texts + 1, sizeof(*v->texts));
        v->texts[v->n_texts++] = mem_strndup(at, n);
        at += n + (at[n] == ',');
    }
    return 0;
}

static int parse_switch(struct value *v, struct error *e)
{
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < COUNTOF(yes); i++) {
        if (strcmp(v->text, yes[i]) == 0) {
            v->count = 1;
            return 0;
        }
        if (strcmp(v->text, no[i]) == 0)
            return 0;
    }
    return error_set(e, ERR_INVALID, "%s: \"%.80s\" is neither true nor false", v->where, v->text);
}

static int check(struct value *v, struct error *e)
{
    const char *end = "";
    char *stop;
    bool ok = true;
    switch (v->row->kind) {
    case SETTING_TEXT:
        return 0;
    case SETTING_SWITCH:
        return parse_switch(v, e);
    case SETTING_LIST:
        return parse_list(v, e);
    case SETTING_TEXTS:
        return parse_texts(v, e);
    case SETTING_BYTES:
        ok = parse_bytes(v->text, &v->number);
        break;
    case SETTING_COUNT:
        ok = parse_whole(v->text, &end, &v->number) && *end == '\0';
        break;
    case SETTING_REAL:
        v->number = strtod(v->text, &stop);
        ok = stop != v->text && *stop == '\0' && isfinite(v->number);
        break;
    }
    if (!ok || v->number < v->row->min || v->number > v->row->max)
        return bad_number(v, e);
    v->count = v->number > 0 ? (uint64_t)v->number : 0;
    return 0;
}

/* ---- gathering ---- */

static size_t make_options(enum command_bit command, struct option *options, char *letters)
{
    size_t n = 0, k = 0;
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *r = &setting_rows[i];
        if (!(r->commands & command))
            continue;
        char *name = mem_alloc(64);
        spell(r->key, false, name);
        int has = r->kind == SETTING_SWITCH ? no_argument : required_argument;
        options[n++] = (struct option){name, has, NULL, LONG_BASE + (int)i};
        if (r->letter) {
            letters[k++] = r->letter;
            if (has == required_argument)
                letters[k++] = ':';
        }
    }
    letters[k++] = 'h';
    letters[k] = '\0';
    options[n++] = (struct option){"help", no_argument, NULL, HELP};
    return n;
}

static size_t row_of_letter(enum command_bit command, int letter)
{
    for (size_t i = 0; i < setting_row_count; i++)
        if ((setting_rows[i].commands & command) && setting_rows[i].letter == letter)
            return i;
    return setting_row_count;
}

static int bad_flag(int argc, char **argv, int answer, struct error *e)
{
    const char *flag = optind > 0 && optind <= argc ? argv[optind - 1] : argv[0];
    char letter[3] = {'-', (char)optopt, 0};
    if (optopt > 0 && optopt < LONG_BASE && optopt != HELP)
        flag = letter;
    if (answer == ':')
        return error_set(e, ERR_INVALID, "%s needs a value; see shoal %s --help", flag, argv[0]);
    return error_set(e, ERR_INVALID, "%s is not an option of shoal %s; see shoal %s --help", flag, argv[0], argv[0]);
}

static int take_argument(struct settings *s, const char *text, struct error *e)
{
    if (s->n_arguments == SETTINGS_ARGUMENTS_MAX)
        return error_set(e, ERR_INVALID, "too many arguments");
    s->arguments[s->n_arguments++] = mem_strdup(text);
    return 0;
}

static int read_flags(struct settings *s, int argc, char **argv, bool *help, struct error *e)
{
    struct option *options = mem_array(setting_row_count + 2, sizeof(*options));
    char *letters = mem_alloc(setting_row_count * 2 + 8), where[64 + 2] = "--";
    letters[0] = ':'; /* a missing value is told apart from an unknown flag */
    size_t n = make_options(s->command, options, letters + 1);
    int r = 0, c;
    optind = 0;
    opterr = 0;
    while (r == 0 && (c = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        if (c == 'h' || c == HELP) {
            *help = true;
            break;
        }
        size_t i = c >= LONG_BASE ? (size_t)(c - LONG_BASE) : row_of_letter(s->command, c);
        if (c == '?' || c == ':' || i >= setting_row_count) {
            r = bad_flag(argc, argv, c, e);
            break;
        }
        spell(setting_rows[i].key, false, where + 2);
        put(&s->values[i], optarg ? optarg : "true", FROM_FLAG, where);
    }
    for (int i = optind; r == 0 && !*help && i < argc; i++)
        r = take_argument(s, argv[i], e);
    for (size_t i = 0; i + 1 < n; i++)
        mem_free((char *)(uintptr_t)options[i].name);
    mem_free(options);
    mem_free(letters);
    return r;
}

static void read_environment(struct settings *s)
{
    for (size_t i = 0; i < setting_row_count; i++) {
        char name[64];
        if (!s->values[i].row)
            continue;
        spell(setting_rows[i].key, true, name);
        const char *text = getenv(name);
        if (text && text[0])
            put(&s->values[i], text, FROM_ENVIRONMENT, name);
    }
}

static int set_from_file(void *arg, const char *key, const char *text, size_t line, struct error *e)
{
    struct settings *s = arg;
    struct value *v = strcmp(key, "config") == 0 ? NULL : find(s, key);
    char where[64];
    snprintf(where, sizeof(where), "line %zu, %.40s", line, key);
    if (v) {
        put(v, text, FROM_FILE, where);
        return 0;
    }
    for (size_t i = 0; i < setting_row_count; i++)
        if (strcmp(setting_rows[i].key, key) == 0 && strcmp(key, "config") != 0)
            return 0; /* of another command */
    return error_set(e, ERR_CONFIG, "line %zu: \"%.80s\" is not a setting; see shoal --help", line, key);
}

static int check_all(struct settings *s, struct error *e)
{
    for (size_t i = 0; i < setting_row_count; i++) {
        struct value *v = &s->values[i];
        if (!v->row)
            continue;
        if (!v->text && v->row->fallback)
            put(v, v->row->fallback, FROM_DEFAULT, v->row->key);
        int r = v->text ? check(v, e) : 0;
        if (r != 0)
            return v->source == FROM_FILE ? error_context(e, "%s", s->file) : r;
    }
    return 0;
}

int settings_read(struct settings **out, enum command_bit command, int argc, char **argv, bool *help,
                  struct error *e)
{
    struct settings *s = mem_alloc(sizeof(*s));
    *out = NULL;
    *help = false;
    s->command = command;
    s->values = mem_array(setting_row_count, sizeof(*s->values));
    for (size_t i = 0; i < setting_row_count; i++)
        s->values[i].row = setting_rows[i].commands & command ? &setting_rows[i] : NULL;
    int r = read_flags(s, argc, argv, help, e);
    if (r == 0 && !*help) {
        read_environment(s);
        const char *file = find(s, "config")->text;
        if (file) {
            s->file = mem_strdup(file);
            r = settings_file_read(s->file, set_from_file, s, e);
        }
        if (r == 0)
            r = check_all(s, e);
    }
    if (r != 0)
        settings_free(&s);
    *out = s;
    return r;
}

void settings_free(struct settings **settings_p)
{
    struct settings *s = *settings_p;
    if (!s)
        return;
    for (size_t i = 0; i < setting_row_count; i++) {
        mem_free(s->values[i].text);
        mem_free(s->values[i].list);
        for (size_t k = 0; k < s->values[i].n_texts; k++)
            mem_free(s->values[i].texts[k]);
        mem_free(s->values[i].texts);
    }
    for (size_t i = 0; i < s->n_arguments; i++)
        mem_free(s->arguments[i]);
    mem_free(s->values);
    mem_free(s->file);
    mem_free(s);
    *settings_p = NULL;
}

/* ---- reading ---- */

static const struct value *get(const struct settings *s, const char *key, uint32_t kinds)
{
    const struct value *v = find(s, key);
    assert(v != NULL);
    assert(kinds & (1U << v->row->kind));
    return v;
}

size_t settings_argument_count(const struct settings *s)
{
    return s->n_arguments;
}

const char *settings_argument(const struct settings *s, size_t i)
{
    return i < s->n_arguments ? s->arguments[i] : NULL;
}

void settings_replace_argument(struct settings *s, size_t i, const char *text)
{
    assert(i < s->n_arguments);
    mem_free(s->arguments[i]);
    s->arguments[i] = mem_strdup(text);
}

void settings_replace_text(struct settings *s, const char *key, const char *text)
{
    struct value *v = find(s, key);
    assert(v && v->row->kind == SETTING_TEXT);
    mem_free(v->text);
    v->text = mem_strdup(text);
}

const char *settings_text(const struct settings *s, const char *key)
{
    return get(s, key, 1U << SETTING_TEXT)->text;
}

uint64_t settings_count(const struct settings *s, const char *key)
{
    return get(s, key, 1U << SETTING_COUNT | 1U << SETTING_BYTES)->count;
}

double settings_real(const struct settings *s, const char *key)
{
    return get(s, key, 1U << SETTING_REAL)->number;
}

bool settings_switch(const struct settings *s, const char *key)
{
    return get(s, key, 1U << SETTING_SWITCH)->count != 0;
}

bool settings_given(const struct settings *s, const char *key)
{
    const struct value *v = find(s, key);
    assert(v != NULL);
    return v->text && v->source != FROM_DEFAULT;
}

const char *const *settings_texts(const struct settings *s, const char *key, size_t *n)
{
    const struct value *v = get(s, key, 1U << SETTING_TEXTS);
    *n = v->n_texts;
    return (const char *const *)v->texts;
}

const uint32_t *settings_list(const struct settings *s, const char *key, size_t *n)
{
    const struct value *v = get(s, key, 1U << SETTING_LIST);
    *n = v->n_list;
    return v->list;
}

void settings_help(enum command_bit command)
{
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *r = &setting_rows[i];
        char name[64], flag[100], letter[5] = "    ";
        if (!(r->commands & command))
            continue;
        spell(r->key, false, name);
        if (r->letter)
            snprintf(letter, sizeof(letter), "-%c, ", r->letter);
        snprintf(flag, sizeof(flag), "%s--%s%s%s", letter, name, r->value ? " " : "", r->value ? r->value : "");
        printf("  %-30s%s%s", flag, strlen(flag) > 29 ? "\n                                " : "", r->help);
        if (r->fallback && strcmp(r->fallback, "0") != 0)
            printf(" [%s]", r->fallback);
        putchar('\n');
    }
    printf("      --help                    this text\n"
           "Each is also an environment variable, SHOAL_ and the name in capitals, and a key of the YAML file.\n");
}
