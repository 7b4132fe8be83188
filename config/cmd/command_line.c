/* The command line: `tailrace [--option value]... command word...`, options anywhere. Each option
 * is also an environment variable, which the command line overrides. Thread: main. */
#include "config/cmd/command_line.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct opt_spec command_options[] = {
    { .key = "memory",
      .type = OPT_BYTES,
      .fallback = "256MiB",
      .min = INT64_C(64) << 20,
      .doc = "ceiling on the anonymous memory of the process; several jobs share it" },
    { .key = "state",
      .type = OPT_TEXT,
      .doc = "folder of local state (default: /var/lib/tailrace for root, else "
             "${XDG_STATE_HOME:-~/.local/state}/tailrace)" },
    { .key = "log",
      .type = OPT_CHOICE,
      .fallback = "text",
      .choices = "text|json",
      .doc = "form of the lines on standard error" },
    { .key = "log-level",
      .type = OPT_CHOICE,
      .fallback = "info",
      .choices = "error|warn|info|debug",
      .doc = "least important lines that are written" },
    { .key = "json", .type = OPT_BOOL, .fallback = "off", .doc = "plan and status answer in JSON" },
    { .key = "yes", .type = OPT_BOOL, .fallback = "off", .doc = "drop does what it says" },
    { .key = NULL },
};

const struct command commands[] = {
    { "run", "run JOB...", "snapshot or go on, then stream until a signal", cmd_run },
    { "once", "once JOB...", "snapshot or go on, catch up with now, end", cmd_once },
    { "plan", "plan JOB", "tables, keys and what is missing; starts and changes nothing",
      cmd_plan },
    { "backfill", "backfill JOB TABLE [--where SQL]", "not built yet", cmd_not_built },
    { "status", "status [JOB]", "phase, position, lag, log kept by the slot, what it waits for",
      cmd_status },
    { "verify", "verify JOB [TABLE]", "not built yet", cmd_not_built },
    { "slots", "slots JOB|SOURCE", "what tailrace has made on a server", cmd_slots },
    { "drop", "drop JOB --yes", "removes slot and publications of a job from its server",
      cmd_drop },
    { "help", "help [TOPIC]", "this, or a topic", cmd_help },
};
const size_t command_count = ARRAY_COUNT(commands);

int usage_error(struct log *log, const char *code, const char *cure, const char *fmt, ...) {
    struct err err = ERR_INIT;
    char text[sizeof err.text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err_set(&err, ERR_FATAL, code, "%s", text);
    if (cure) {
        err_cure(&err, "%s", cure);
    }
    log_err(log, "cli", &err);
    return EXIT_USAGE;
}

int report_error(struct log *log, const char *part, const struct err *err) {
    log_err(log, part, err);
    return err->exit != EXIT_DONE ? err->exit : EXIT_ERROR;
}

int put_answer(struct log *log, const struct buf *text) {
    for (size_t done = 0; done < text->len;) {
        ssize_t n = write(STDOUT_FILENO, text->data + done, text->len - done);
        if (n <= 0) {
            struct err err = ERR_INIT;
            err_set(&err, ERR_FATAL, "stdout_closed", "write to standard output: it takes no more");
            return report_error(log, "cli", &err);
        }
        done += (size_t)n;
    }
    return EXIT_DONE;
}

void command_env_name(const char *key, char out[64]) {
    size_t n = (size_t)snprintf(out, 64, "TAILRACE_%s", key);
    CHECK(n < 64);
    for (char *p = out; *p; p++) {
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    }
}

static const struct opt_spec *option_find(const char *key) {
    for (const struct opt_spec *o = command_options; o->key; o++) {
        if (strcmp(o->key, key) == 0) {
            return o;
        }
    }
    return NULL;
}

static int from_environment(struct command_line *line, struct err *err) {
    for (const struct opt_spec *o = command_options; o->key; o++) {
        char name[64];
        command_env_name(o->key, name);
        const char *value = getenv(name);
        if (value && value[0] && opts_set(line->opts, o->key, value, err)) {
            return err_wrap(err, "environment variable %s", name);
        }
    }
    return 0;
}

/* argv[*at] is an option; takes its value too. */
static int take_option(struct command_line *line, char **argv, int *at, struct err *err) {
    const char *word = argv[*at] + 2;
    size_t n = strcspn(word, "=");
    char *key = xstrndup(word, n);
    const char *value = word[n] ? word + n + 1 : NULL;
    const struct opt_spec *spec = option_find(key);
    int rc = 0;
    if (strcmp(word, "docs") == 0 || strcmp(word, "man") == 0 || strcmp(word, "completion") == 0) {
        line->form = word;
    } else if (strcmp(word, "where") == 0 && argv[*at + 1]) { /* of backfill, which refuses */
        ++*at;
    } else if (!spec || value) {
        rc = opts_set(line->opts, key, value ? value : "", err);
    } else if (spec->type == OPT_BOOL) {
        rc = opts_set(line->opts, key, "on", err);
    } else if (!argv[*at + 1]) {
        err_set(err, ERR_FATAL, "option_value", "option \"--%s\" needs a value", key);
        rc = err_exit(err, EXIT_USAGE);
    } else {
        rc = opts_set(line->opts, key, argv[++*at], err);
    }
    free(key);
    return rc;
}

/* Only its letter is quoted: a password may be glued to it. */
static int short_option(const char *word, struct err *err) {
    const char *nearest = word[1] == 'h' || word[1] == '?'   ? "--help"
                          : word[1] == 'V' || word[1] == 'v' ? "--version"
                                                             : NULL;
    if (nearest) {
        err_set(err, ERR_FATAL, "option_unknown",
                "unknown option \"-%c\" (did you mean \"%s\"?): options are long ones", word[1],
                nearest);
    } else {
        err_set(err, ERR_FATAL, "option_unknown", "unknown option \"-%.1s\": options are long ones",
                (word[1] & 0x80) == 0 ? word + 1 : "?");
    }
    err_cure(err, "tailrace help lists them");
    return err_exit(err, EXIT_USAGE);
}

static void log_settings(struct command_line *line) {
    static const char *const levels[] = {
        [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"
    };
    line->log.json = strcmp(opts_text(line->opts, "log"), "json") == 0;
    for (size_t i = 0; i < ARRAY_COUNT(levels); i++) {
        if (strcmp(levels[i], opts_text(line->opts, "log-level")) == 0) {
            line->log.level = (enum log_level)i;
        }
    }
}

int command_line_init(struct command_line *line, int argc, char **argv, struct err *err) {
    *line = (struct command_line){ .log = { .level = LOG_INFO, .fd = STDERR_FILENO, .job = "" } };
    line->opts = opts_new(command_options);
    line->words = xcalloc((size_t)argc + 1, sizeof *line->words);
    int rc = from_environment(line, err);
    bool only_words = false;
    bool help = false;
    for (int i = 1; i < argc && !rc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && strcmp(argv[i], "--help") == 0) {
            help = true;
        } else if (!only_words && strcmp(argv[i], "--version") == 0) {
            line->command = "--version";
        } else if (!only_words && strncmp(argv[i], "--", 2) == 0) {
            rc = take_option(line, argv, &i, err);
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
            rc = short_option(argv[i], err);
        } else if (!line->command) {
            line->command = argv[i];
        } else {
            line->words[line->word_count++] = argv[i];
        }
    }
    if (help && line->command && strcmp(line->command, "help") != 0) { /* run x.sync --help */
        line->words[0] = (char *)line->command;
        line->word_count = 1;
    }
    line->command = help ? "help" : line->command;
    log_settings(line);
    return rc;
}

void command_line_release(struct command_line *line) {
    opts_free(line->opts);
    free(line->words);
}

int cmd_not_built(struct command_line *line) {
    return usage_error(&line->log, "not_built", "tailrace help lists the commands of this version",
                       "command \"%s\": not built yet in this version", line->command);
}

/* A job where the command should be: the line to paste, and nothing of a URL. */
static bool is_job(const char *word) {
    size_t n = strlen(word);
    return strpbrk(word, ":/@ ") || (n > 5 && strcmp(word + n - 5, ".sync") == 0);
}

static int unknown_command(struct command_line *line) {
    if (is_job(line->command)) {
        return usage_error(&line->log, "command_unknown", "tailrace run JOB",
                           "no command before the job");
    }
    const char *words[ARRAY_COUNT(commands)];
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        words[i] = commands[i].name;
    }
    const char *nearest = opt_nearest(line->command, words, ARRAY_COUNT(words));
    if (nearest) {
        return usage_error(&line->log, "command_unknown", "tailrace help",
                           "unknown command \"%.80s\" (did you mean \"%s\"?)", line->command,
                           nearest);
    }
    return usage_error(&line->log, "command_unknown", "tailrace help", "unknown command \"%.80s\"",
                       line->command);
}

int command_line_run(struct command_line *line) {
    if (!line->command) {
        return cmd_usage(line);
    }
    if (line->form && strcmp(line->command, "help") != 0) {
        return usage_error(&line->log, "option_unknown", "tailrace help --docs|--man|--completion",
                           "option \"--%s\" belongs to help", line->form);
    }
    if (strcmp(line->command, "--version") == 0) {
        struct buf text;
        buf_init(&text, SIZE_MAX);
        buf_puts(&text, "tailrace " TAILRACE_VERSION "\n");
        int code = put_answer(&line->log, &text);
        buf_release(&text);
        return code;
    }
    int code = arrow_was_taken(line);
    if (code != EXIT_DONE) {
        return code;
    }
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        if (strcmp(commands[i].name, line->command) == 0) {
            return commands[i].run(line);
        }
    }
    return unknown_command(line);
}
