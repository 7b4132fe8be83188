/* `help`: everything from the tables (commands, options, doors, metrics), so that no text can say
 * something else than the program does. `help --docs` prints config/OPTIONS.md; the man page and
 * the completion are in manual.c. Thread: main. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/cmd/command_line.h"
#include "config/cmd/manual.h"
#include "config/codes.h"

const char help_grammar[] =
    "A job is one line, and rules below it. One job a file; its name is the file's name.\n"
    "\n"
    "    SOURCE -> SINK\n"
    "    PATTERN: ACTION ACTION ...\n"
    "\n"
    "    SOURCE, SINK  scheme:[//[user[:secret]@]hosts][/path][?key=value&key=value]\n"
    "    PATTERN       [schema.]table, matched from the right; * and ? are wildcards, \"a name\" "
    "is taken as it is\n"
    "    ACTION        skip            leave the table out\n"
    "                  keep            take it after all (undoes a skip above)\n"
    "                  append          only its inserts: for tables without a usable identity\n"
    "                  key=(a,b)       these columns identify its rows\n"
    "\n"
    "The last match wins, for each action by itself (skip and keep are one). `#` at line start or "
    "after a blank opens a comment.\n"
    "Sizes are 64KiB MiB GiB (1024) or kB MB GB (1000), durations 20ms 10s 5m 1h, bare numbers "
    "only count.\n"
    "A percent sign and other bytes are written %25. ${env:NAME} and ${file:/path} are put in "
    "after the URL is split; what they\n"
    "give is never printed.\n"
    "\n"
    "    # shop.sync\n"
    "    postgres://repl:${file:/etc/shop/password}@db1/shop -> jsonl:///var/lib/shop-changes\n"
    "    audit.*: skip\n"
    "    *.events: append\n";

const char help_exit_codes[] =
    "0  done, or stopped by a signal after a clean commit\n"
    "1  stopped by an error of source, target or data\n"
    "2  usage or job text\n"
    "3  something is missing; plan prints its SQL\n"
    "4  fenced, or another instance runs\n"
    "5  the source cannot go on from the position: slot lost or recreated, other server\n"
    "6  difference found\n"
    "Several jobs in one process do not stop each other; the highest code counts.\n"
    "TERM and INT commit what is whole, at most 20 s, and end with 0; a second one ends at once "
    "with 1, which is safe.\n";

const char *const help_topics[] = { "job", "options", "exit", "codes", "metrics" };
const size_t help_topic_count = ARRAY_COUNT(help_topics);

const char *help_kind(const struct opt_spec *o) {
    switch (o->type) {
    case OPT_TEXT:
        return "text";
    case OPT_BOOL:
        return "on|off";
    case OPT_COUNT:
        return "number";
    case OPT_BYTES:
        return "size";
    case OPT_DURATION:
        return "duration";
    case OPT_CHOICE:
        return o->choices;
    }
    return "";
}

static void put_options(struct buf *out, const struct opt_spec *table, const char *before) {
    for (const struct opt_spec *o = table; o->key; o++) {
        char head[128];
        snprintf(head, sizeof head, "%s%s=%s", before, o->key, help_kind(o));
        buf_putf(out, "  %-34s  %s", head, o->doc);
        if (o->fallback) {
            buf_putf(out, " (default %s)", o->fallback);
        }
        buf_putc(out, '\n');
    }
}

static void put_commands(struct buf *out) {
    buf_puts(out, "tailrace copies a database into a changelog and keeps it current, each change "
                  "exactly once.\n\n");
    for (size_t i = 0; i < command_count; i++) {
        buf_putf(out, "  tailrace %-32s %s\n", commands[i].form, commands[i].doc);
    }
    buf_puts(out, "\nJOB is a file, a folder (*.sync), 'SOURCE -> SINK' in quotes, or SOURCE and "
                  "SINK as two arguments.\n"
                  "Options, each also TAILRACE_<NAME> in the environment:\n");
    put_options(out, command_options, "--");
    buf_puts(out, "\ntailrace help");
    for (size_t i = 0; i < help_topic_count; i++) {
        buf_putf(out, "%s %s", i ? " |" : "", help_topics[i]);
    }
    for (size_t i = 0; i < source_door_count; i++) {
        buf_putf(out, " | %s", source_doors[i].scheme);
    }
    for (size_t i = 0; i < sink_door_count; i++) {
        buf_putf(out, " | %s", sink_doors[i].scheme);
    }
    buf_putc(out, '\n');
}

static void put_promise(struct buf *out, const struct sink_door *door) {
    if (door->ops->owns_position) {
        buf_puts(out, "Keeps the position of the job with the rows: exactly once.\n");
    } else {
        buf_puts(out, "Keeps no position: at-least-once. Every start uses a temporary slot and "
                      "begins with a snapshot;\n"
                      "?slot=NAME&snapshot=never on the source streams from an existing slot's "
                      "confirmed position.\n");
    }
}

static void put_source(struct buf *out, const struct source_door *door) {
    buf_putf(out, "SOURCE %s://[user[:secret]@]host[:port]/database[?key=value&...]\n",
             door->scheme);
    put_options(out, door->ops->opts, "?");
    put_options(out, job_source_options, "?");
    if (door->client) {
        buf_putf(out,
                 "Every other key goes to %s, which knows for instance sslmode, sslrootcert, host "
                 "and port.\n",
                 door->client);
    }
}

static void put_sink(struct buf *out, const struct sink_door *door) {
    buf_putf(out, "SINK %s:%s[?key=value&...]\n", door->scheme,
             door->ops->owns_position ? "///folder" : "");
    put_promise(out, door);
    put_options(out, door->ops->opts, "?");
    put_options(out, job_sink_options, "?");
}

static void put_metrics(struct buf *out) {
    for (int k = 0; k < METRIC_COUNT; k++) {
        buf_putf(out, "  %-20s %-6s %s\n", metric_name((enum metric)k), metric_unit((enum metric)k),
                 metric_doc((enum metric)k));
    }
}

static void put_codes(struct buf *out) {
    for (size_t i = 0; i < error_code_count; i++) {
        buf_putf(out, "  %-22s  %s\n", error_codes[i].code, error_codes[i].doc);
    }
}

/* --- config/OPTIONS.md
 * ---------------------------------------------------------------------------- */

/* A cell of a table: | would end it. */
static void put_cell(struct buf *out, const char *text) {
    for (; *text; text++) {
        buf_puts(out, *text == '|' ? "\\" : "");
        buf_putc(out, *text);
    }
}

static void put_table(struct buf *out, const struct opt_spec *table, bool command) {
    buf_puts(out,
             command
                 ? "| option | environment | value | default | |\n| --- | --- | --- | --- | --- |\n"
                 : "| key | value | default | |\n| --- | --- | --- | --- |\n");
    for (const struct opt_spec *o = table; o->key; o++) {
        char name[64];
        command_env_name(o->key, name);
        buf_putf(out, "| `%s%s` | ", command ? "--" : "", o->key);
        if (command) {
            buf_putf(out, "`%s` | ", name);
        }
        put_cell(out, help_kind(o));
        buf_putf(out, " | %s | ", o->fallback ? o->fallback : "");
        put_cell(out, o->doc);
        buf_puts(out, " |\n");
    }
}

static void put_docs(struct buf *out) {
    buf_puts(out, "# Options\n\nGenerated from the program's own tables: `build/tailrace help "
                  "--docs > config/OPTIONS.md`.\n\n"
                  "## Command line\n\n");
    put_table(out, command_options, true);
    buf_puts(out, "\n## Job text\n\n");
    for (const char *line = help_grammar; *line;) {
        size_t n = strcspn(line, "\n");
        buf_put(out, line, n);
        buf_putc(out, '\n');
        line += n + (line[n] == '\n');
    }
    buf_puts(out, "\n## Keys of every source\n\n");
    put_table(out, job_source_options, false);
    for (size_t i = 0; i < source_door_count; i++) {
        if (i > 0 && source_doors[i].ops == source_doors[i - 1].ops) {
            continue; /* another name of the same door */
        }
        buf_putf(out, "\n## Source `%s:`\n\n", source_doors[i].scheme);
        put_table(out, source_doors[i].ops->opts, false);
        if (source_doors[i].client) {
            buf_putf(out, "\nEvery other key goes to %s if it knows it.\n", source_doors[i].client);
        }
    }
    buf_puts(out, "\n## Keys of every sink\n\n");
    put_table(out, job_sink_options, false);
    for (size_t i = 0; i < sink_door_count; i++) {
        buf_putf(out, "\n## Sink `%s:`\n\n", sink_doors[i].scheme);
        put_promise(out, &sink_doors[i]);
        buf_putc(out, '\n');
        put_table(out, sink_doors[i].ops->opts, false);
    }
    buf_puts(out, "\n## Exit codes\n\n```\n");
    buf_puts(out, help_exit_codes);
    buf_puts(out, "```\n\n## Codes of errors\n\n`code` of the JSON log; they do not change.\n\n| "
                  "code | |\n| --- | --- |\n");
    for (size_t i = 0; i < error_code_count; i++) {
        buf_putf(out, "| `%s` | ", error_codes[i].code);
        put_cell(out, error_codes[i].doc);
        buf_puts(out, " |\n");
    }
    buf_puts(out, "\n## Metrics\n\n| name | unit | |\n| --- | --- | --- |\n");
    for (int k = 0; k < METRIC_COUNT; k++) {
        buf_putf(out, "| `%s` | %s | %s |\n", metric_name((enum metric)k),
                 metric_unit((enum metric)k), metric_doc((enum metric)k));
    }
}

/* --- the command --------------------------------------------------------------------------------
 */

static int unknown_topic(struct command_line *line, const char *topic) {
    const char *words[128];
    size_t count = 0;
    for (size_t i = 0; i < help_topic_count; i++) {
        words[count++] = help_topics[i];
    }
    for (size_t i = 0; i < command_count; i++) {
        words[count++] = commands[i].name;
    }
    for (size_t i = 0; i < source_door_count; i++) {
        words[count++] = source_doors[i].scheme;
    }
    for (size_t i = 0; i < sink_door_count; i++) {
        words[count++] = sink_doors[i].scheme;
    }
    CHECK(count <= ARRAY_COUNT(words));
    const char *nearest = opt_nearest(topic, words, count);
    if (nearest) {
        return usage_error(&line->log, "topic_unknown", "tailrace help",
                           "no help on \"%.80s\" (did you mean \"%s\"?)", topic, nearest);
    }
    if (strpbrk(topic, ":@")) { /* a URL, maybe with a password */
        return usage_error(&line->log, "topic_unknown", "tailrace help, or tailrace plan JOB",
                           "help takes topics, not jobs");
    }
    return usage_error(&line->log, "topic_unknown", "tailrace help", "no help on \"%.80s\"", topic);
}

static int put_topic(struct command_line *line, const char *topic, struct buf *out) {
    const struct source_door *source = source_door_find(topic);
    const struct sink_door *sink = sink_door_find(topic);
    if (strcmp(topic, "job") == 0 || strcmp(topic, "rules") == 0) {
        buf_puts(out, help_grammar);
    } else if (strcmp(topic, "options") == 0) {
        put_options(out, command_options, "--");
    } else if (strcmp(topic, "exit") == 0) {
        buf_puts(out, help_exit_codes);
    } else if (strcmp(topic, "codes") == 0) {
        put_codes(out);
    } else if (strcmp(topic, "metrics") == 0) {
        put_metrics(out);
    } else if (source) {
        put_source(out, source);
    } else if (sink) {
        put_sink(out, sink);
    } else {
        for (size_t i = 0; i < command_count; i++) {
            if (strcmp(commands[i].name, topic) == 0) {
                buf_putf(out,
                         "tailrace %s\n    %s\n\nJOB: tailrace help job. Options: tailrace help "
                         "options.\n",
                         commands[i].form, commands[i].doc);
                return EXIT_DONE;
            }
        }
        return unknown_topic(line, topic);
    }
    return EXIT_DONE;
}

int cmd_help(struct command_line *line) {
    struct buf out;
    int code = EXIT_DONE;
    buf_init(&out, SIZE_MAX);
    if (line->form) {
        (strcmp(line->form, "man") == 0          ? manual_put
         : strcmp(line->form, "completion") == 0 ? completion_put
                                                 : put_docs)(&out);
    } else if (line->word_count == 0) {
        put_commands(&out);
    }
    for (int i = 0; i < line->word_count; i++) {
        code = worse(code, put_topic(line, line->words[i], &out));
    }
    code = worse(code, put_answer(&line->log, &out));
    buf_release(&out);
    return code;
}

int cmd_usage(struct command_line *line) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    put_commands(&out);
    ssize_t n = write(STDERR_FILENO, out.data, out.len);
    (void)n; /* nobody reads it */
    (void)line;
    buf_release(&out);
    return EXIT_USAGE;
}
