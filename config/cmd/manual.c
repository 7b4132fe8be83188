/* `help --man` and `help --completion`: what packages install. Everything comes from the tables of
 * commands, options and doors; a table that grows changes both. Thread: main. */
#include "config/cmd/manual.h"

#include <string.h>

#include "config/cmd/command_line.h"

/* --- tailrace.1 --- */

/* Text of a line: no byte of it may be an instruction. */
static void put_roff(struct buf *out, const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        bool start = i == 0 || text[i - 1] == '\n';
        if (start && (text[i] == '.' || text[i] == '\'')) {
            buf_puts(out, "\\&");
        }
        if (text[i] == '\\') {
            buf_puts(out, "\\e");
        } else if (text[i] == '-') {
            buf_puts(out, "\\-");
        } else {
            buf_putc(out, text[i]);
        }
    }
}

static void put_line(struct buf *out, const char *text) {
    put_roff(out, text, strlen(text));
    buf_putc(out, '\n');
}

static void put_verbatim(struct buf *out, const char *text) {
    buf_puts(out, ".nf\n");
    put_roff(out, text, strlen(text));
    buf_puts(out, ".fi\n");
}

static void put_options(struct buf *out, const struct opt_spec *table, const char *before) {
    for (const struct opt_spec *o = table; o->key; o++) {
        buf_puts(out, ".TP\n.B ");
        put_roff(out, before, strlen(before));
        put_roff(out, o->key, strlen(o->key));
        buf_putc(out, '=');
        put_line(out, help_kind(o));
        put_line(out, o->doc);
        if (o->fallback) {
            buf_puts(out, "(default ");
            put_roff(out, o->fallback, strlen(o->fallback));
            buf_puts(out, ")\n");
        }
    }
}

static void put_doors(struct buf *out) {
    buf_puts(out, ".SS every source\n");
    put_options(out, job_source_options, "?");
    for (size_t i = 0; i < source_door_count; i++) {
        if (i > 0 && source_doors[i].ops == source_doors[i - 1].ops) {
            continue; /* another name of the same door */
        }
        buf_putf(out, ".SS %s:\n", source_doors[i].scheme);
        put_options(out, source_doors[i].ops->opts, "?");
        if (source_doors[i].client) {
            buf_putf(out, ".PP\nEvery other key goes to %s if it knows it.\n",
                     source_doors[i].client);
        }
    }
    buf_puts(out, ".SS every sink\n");
    put_options(out, job_sink_options, "?");
    for (size_t i = 0; i < sink_door_count; i++) {
        buf_putf(out, ".SS %s:\n", sink_doors[i].scheme);
        put_line(out, sink_doors[i].ops->owns_position
                          ? "Keeps the position of the job with the rows: exactly once."
                          : "Keeps no position: at-least-once.");
        put_options(out, sink_doors[i].ops->opts, "?");
    }
}

void manual_put(struct buf *out) {
    buf_puts(out, ".TH TAILRACE 1 \"\" \"tailrace " TAILRACE_VERSION "\" \"User Commands\"\n"
                  ".SH NAME\ntailrace \\- copy a database into a changelog and keep it current\n"
                  ".SH SYNOPSIS\n.nf\n");
    for (size_t i = 0; i < command_count; i++) {
        buf_puts(out, "\\fBtailrace\\fR ");
        put_line(out, commands[i].form);
    }
    buf_puts(out, ".fi\n.SH DESCRIPTION\n");
    put_line(out, "It reads the tables once, in parallel, goes on with the log without a seam, and "
                  "delivers every change exactly once, whatever is killed in between.");
    put_line(out,
             "JOB is a file, a folder (*.sync), 'SOURCE -> SINK' in quotes, or SOURCE and SINK "
             "as two arguments.");
    buf_puts(out, ".SH COMMANDS\n");
    for (size_t i = 0; i < command_count; i++) {
        buf_puts(out, ".TP\n.B ");
        put_line(out, commands[i].form);
        put_line(out, commands[i].doc);
    }
    buf_puts(out, ".SH OPTIONS\nEach is also TAILRACE_<NAME> in the environment.\n");
    put_options(out, command_options, "--");
    buf_puts(out, ".SH JOB TEXT\n");
    put_verbatim(out, help_grammar);
    buf_puts(out, ".SH KEYS OF URLS\n");
    put_doors(out);
    buf_puts(out, ".SH EXIT STATUS\n");
    put_verbatim(out, help_exit_codes);
}

/* --- completion --- */

static void put_words(struct buf *out, const char *words) {
    for (; *words; words++) {
        buf_putc(out, *words == '|' ? ' ' : *words);
    }
}

void completion_put(struct buf *out) {
    buf_puts(out,
             "# bash completion of tailrace " TAILRACE_VERSION
             ", written by `tailrace help --completion`\n"
             "_tailrace() {\n"
             "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
             "    case $prev in\n");
    for (const struct opt_spec *o = command_options; o->key; o++) {
        if (o->type == OPT_CHOICE) {
            buf_putf(out, "    --%s) words='", o->key);
            put_words(out, o->choices);
            buf_puts(out, "' ;;\n");
        } else if (o->type != OPT_BOOL && strcmp(o->key, "state") != 0) {
            buf_putf(out, "    --%s) return ;;\n", o->key);
        }
    }
    buf_puts(out, "    --state) mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); return ;;\n"
                  "    help) words='");
    for (size_t i = 0; i < help_topic_count; i++) {
        buf_putf(out, "%s%s", i ? " " : "", help_topics[i]);
    }
    for (size_t i = 0; i < source_door_count; i++) {
        buf_putf(out, " %s", source_doors[i].scheme);
    }
    for (size_t i = 0; i < sink_door_count; i++) {
        buf_putf(out, " %s", sink_doors[i].scheme);
    }
    for (size_t i = 0; i < command_count; i++) {
        buf_putf(out, " %s", commands[i].name);
    }
    buf_puts(out, "' ;;\n    esac\n"
                  "    if [[ -z $words && $cur == -* ]]; then\n        words='--help --version");
    for (const struct opt_spec *o = command_options; o->key; o++) {
        buf_putf(out, " --%s", o->key);
    }
    buf_puts(out, "'\n    elif [[ -z $words && $COMP_CWORD == 1 ]]; then\n        words='");
    for (size_t i = 0; i < command_count; i++) {
        if (commands[i].run != cmd_not_built) {
            buf_putf(out, "%s%s", i ? " " : "", commands[i].name);
        }
    }
    buf_puts(out, "'\n    fi\n"
                  "    if [[ -n $words ]]; then\n"
                  "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
                  "    else\n"
                  "        mapfile -t COMPREPLY < <(compgen -f -X '!*.sync' -- \"$cur\"; "
                  "compgen -d -- \"$cur\")\n"
                  "    fi\n"
                  "}\n"
                  "complete -o filenames -F _tailrace tailrace\n");
}
