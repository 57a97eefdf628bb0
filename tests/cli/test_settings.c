/* test_settings: precedence, checks and refusals of flags, environment and YAML file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/path.h"
#include "cli/settings.h"

static char file[] = "/tmp/shoal-settings-XXXXXX";

static void write_file(const char *text)
{
    assert_int_equal(path_write_atomic(file, text, strlen(text), 0600, NULL), 0);
}

/* Arguments by blanks, after the command's name. */
static int read_for(enum command_bit command, const char *line, struct settings **s, struct error *e)
{
    static char copy[512];
    char command_name[] = "command", *argv[32] = {command_name}, *at = copy;
    int argc = 1;
    bool help;
    assert_true(strlen(line) < sizeof(copy));
    memcpy(copy, line, strlen(line) + 1);
    for (char *word; argc < 31 && (word = strsep(&at, " "));)
        if (*word)
            argv[argc++] = word;
    memset(e, 0, sizeof(*e));
    return settings_read(s, command, argc, argv, &help, e);
}

static struct settings *read_ok(enum command_bit command, const char *line)
{
    struct settings *s;
    struct error e;
    int r = read_for(command, line, &s, &e);
    if (r != 0)
        print_error("%s: %s\n", line, e.text);
    assert_int_equal(r, 0);
    return s;
}

static void settings_take_flag_over_environment_over_file_over_default(void **state)
{
    (void)state;
    char line[128];
    write_file("port: 1001\n");
    struct settings *s = read_ok(CMD_COORDINATOR, "");
    assert_int_equal(settings_count(s, "port"), 8080);
    assert_false(settings_given(s, "port"));
    settings_free(&s);

    snprintf(line, sizeof(line), "--config %s", file);
    s = read_ok(CMD_COORDINATOR, line);
    assert_int_equal(settings_count(s, "port"), 1001);
    assert_true(settings_given(s, "port"));
    settings_free(&s);

    setenv("SHOAL_PORT", "1002", 1);
    s = read_ok(CMD_COORDINATOR, line);
    assert_int_equal(settings_count(s, "port"), 1002);
    settings_free(&s);

    snprintf(line, sizeof(line), "--port 1003 --config %s", file);
    s = read_ok(CMD_COORDINATOR, line);
    assert_int_equal(settings_count(s, "port"), 1003);
    settings_free(&s);
    unsetenv("SHOAL_PORT");
}

static void settings_read_every_kind(void **state)
{
    (void)state;
    struct settings *s = read_ok(CMD_NODE, "--memory 1.5GiB -t 3 --pin --name x");
    assert_true(settings_count(s, "memory") == 1610612736);
    assert_int_equal(settings_count(s, "threads"), 3);
    assert_true(settings_switch(s, "pin"));
    assert_string_equal(settings_text(s, "name"), "x");
    assert_null(settings_text(s, "join"));
    settings_free(&s);

    s = read_ok(CMD_BENCH, "m.gguf -t 1,2,16 -p 7 --nodes=2");
    size_t n;
    const uint32_t *list = settings_list(s, "threads", &n);
    assert_int_equal(n, 3);
    assert_int_equal(list[2], 16);
    assert_int_equal(settings_count(s, "prompt"), 7);
    assert_int_equal(settings_count(s, "nodes"), 2);
    assert_string_equal(settings_argument(s, 0), "m.gguf");
    assert_null(settings_argument(s, 1));
    settings_free(&s);

    s = read_ok(CMD_RUN, "m.gguf --temperature 0.25 -- -prompt-");
    assert_true(settings_real(s, "temperature") == 0.25);
    assert_string_equal(settings_argument(s, 1), "-prompt-");
    settings_free(&s);
}

static void settings_read_sizes_in_both_systems(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {{"17", 17}, {"17B", 17}, {"2k", 2048}, {"2kB", 2000}, {"2KiB", 2048}, {"3M", 3 << 20},
                 {"3MB", 3000000}, {"1G", 1 << 30}, {"2TB", 2000000000000}};
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        char line[64];
        snprintf(line, sizeof(line), "--memory %s", cases[i].text);
        struct settings *s = read_ok(CMD_NODE, line);
        assert_true(settings_count(s, "memory") == cases[i].bytes);
        settings_free(&s);
    }
}

static void settings_refuse_what_is_wrong_by_name(void **state)
{
    (void)state;
    static const struct {
        enum command_bit command;
        const char *line, *word;
    } cases[] = {
        {CMD_COORDINATOR, "--port 70000", "--port"},
        {CMD_COORDINATOR, "--port -1", "--port"},
        {CMD_COORDINATOR, "--port 80x", "--port"},
        {CMD_COORDINATOR, "--nonsense", "--nonsense"},
        {CMD_COORDINATOR, "--port", "--port"},
        {CMD_SHOW, "--port 8080", "--port"},
        {CMD_NODE, "--memory 3X", "--memory"},
        {CMD_NODE, "--memory 3GG", "--memory"},
        {CMD_NODE, "--memory -3", "--memory"},
        {CMD_BENCH, "-t 1,,2", "--threads"},
        {CMD_BENCH, "-t 1,", "--threads"},
        {CMD_BENCH, "-t 999", "--threads"},
        {CMD_RUN, "--temperature nan", "--temperature"},
        {CMD_RUN, "--top-p 1.5", "--top-p"},
        {CMD_RUN, "-Z", "-Z"},
        {CMD_RUN, "-n", "-n"},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct settings *s;
        struct error e;
        assert_int_equal(read_for(cases[i].command, cases[i].line, &s, &e), ERR_INVALID);
        assert_null(s);
        if (!strstr(e.text, cases[i].word))
            fail_msg("%s: \"%s\" does not name %s", cases[i].line, e.text, cases[i].word);
    }
    setenv("SHOAL_PORT", "eighty", 1);
    struct settings *s;
    struct error e;
    assert_int_equal(read_for(CMD_SERVE, "m", &s, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "SHOAL_PORT"));
    unsetenv("SHOAL_PORT");
}

static void settings_file_names_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
        int status;
    } cases[] = {
        {"port: 1\nprot: 2\n", "line 2", ERR_CONFIG},
        {"# a comment\n\nport: many\n", "line 3", ERR_INVALID},
        {"config: other.yaml\n", "line 1", ERR_CONFIG},
        {"port: [1, 2]\n", "line 1", ERR_CONFIG},
        {"port:\n  deep: 1\n", "line 2", ERR_CONFIG},
        {"- port\n", "line 1", ERR_CONFIG},
        {"just text\n", "line 1", ERR_CONFIG},
        {"port: \"unfinished\n", "line", ERR_CONFIG},
        {"{port: 1", "line", ERR_CONFIG},
        {"port: 1\nhost: *anchor\n", "line 2", ERR_CONFIG},
        {"\"po\\0rt\": 1\n", "line 1", ERR_CONFIG},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct settings *s;
        struct error e;
        char line[128];
        write_file(cases[i].text);
        snprintf(line, sizeof(line), "--config %s", file);
        int r = read_for(CMD_COORDINATOR, line, &s, &e);
        if (r != cases[i].status || !strstr(e.text, cases[i].word) || !strstr(e.text, file))
            fail_msg("case %zu: %d \"%s\"", i, r, e.text);
    }
}

static void settings_file_may_hold_what_other_commands_need(void **state)
{
    (void)state;
    char line[128];
    write_file("model: m.gguf\njoin: abc\npin: yes\nnodes: 2\nthreads: 4\n");
    snprintf(line, sizeof(line), "--config %s", file);
    struct settings *s = read_ok(CMD_COORDINATOR, line);
    assert_string_equal(settings_text(s, "model"), "m.gguf");
    assert_int_equal(settings_count(s, "nodes"), 2);
    settings_free(&s);
    s = read_ok(CMD_NODE, line);
    assert_string_equal(settings_text(s, "join"), "abc");
    assert_true(settings_switch(s, "pin"));
    settings_free(&s);
    write_file("");
    s = read_ok(CMD_NODE, line);
    settings_free(&s);
}

static void settings_missing_file_is_said(void **state)
{
    (void)state;
    struct settings *s;
    struct error e;
    assert_int_not_equal(read_for(CMD_NODE, "--config /nonexistent/shoal.yaml", &s, &e), 0);
    assert_non_null(strstr(e.text, "/nonexistent/shoal.yaml"));
}

static void settings_help_stops_everything_else(void **state)
{
    (void)state;
    struct settings *s;
    struct error e = {0};
    bool help;
    const char *const argv[] = {"node", "--help", "--config", "/nonexistent", NULL};
    assert_int_equal(settings_read(&s, CMD_NODE, 4, (char **)(uintptr_t)argv, &help, &e), 0);
    assert_true(help);
    settings_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_take_flag_over_environment_over_file_over_default),
        cmocka_unit_test(settings_read_every_kind),
        cmocka_unit_test(settings_read_sizes_in_both_systems),
        cmocka_unit_test(settings_refuse_what_is_wrong_by_name),
        cmocka_unit_test(settings_file_names_the_line),
        cmocka_unit_test(settings_file_may_hold_what_other_commands_need),
        cmocka_unit_test(settings_missing_file_is_said),
        cmocka_unit_test(settings_help_stops_everything_else),
    };
    int fd = mkstemp(file);
    if (fd < 0)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)remove(file);
    return failed;
}
