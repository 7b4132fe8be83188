/* From words of the command line to jobs. A word is a file, a folder of *.sync files, a job line
 * (it holds an arrow), or a SOURCE followed by a SINK. Mistakes are logged here, all of them; the
 * jobs without one are kept. Thread: main. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/cmd/cmd.h"

/* --- an arrow that the shell took
 * ----------------------------------------------------------------- */

/* What standard output was redirected to, if that looks like a sink: the shell opened "discard:" or
 * "jsonl:..". */
static void guess_sink(char *out, size_t cap) {
    char path[512];
    char cwd[512];
    ssize_t n = readlink("/proc/self/fd/1", path, sizeof path - 1);
    snprintf(out, cap, "SINK");
    if (n <= 0 || !getcwd(cwd, sizeof cwd)) {
        return;
    }
    path[n] = '\0';
    size_t skip = strlen(cwd);
    if (strncmp(path, cwd, skip) != 0 || path[skip] != '/') {
        return;
    }
    const char *name = path + skip + 1;
    size_t scheme = strcspn(name, ":");
    if (name[scheme] == ':') {
        char *word = xstrndup(name, scheme);
        if (sink_door_find(word)) {
            snprintf(out, cap, "%s", name);
        }
        free(word);
    }
}

int arrow_was_taken(struct command_line *line) {
    if (line->word_count == 0 || strcmp(line->words[line->word_count - 1], "-") != 0) {
        return EXIT_DONE;
    }
    if (line->word_count == 1) {
        return usage_error(
            &line->log, "job_missing",
            "a job is a file, a folder, 'SOURCE -> SINK' in quotes, or SOURCE and SINK",
            "\"-\": a job is not read from standard input");
    }
    struct buf cure;
    char sink[256];
    guess_sink(sink, sizeof sink);
    buf_init(&cure, SIZE_MAX);
    buf_putf(&cure, "tailrace %s '", line->command);
    for (int i = 0; i + 1 < line->word_count; i++) {
        url_put_without_secret(&cure, line->words[i], strlen(line->words[i]));
        buf_putc(&cure, ' ');
    }
    buf_putf(&cure, "-> %s'", sink);
    int code = usage_error(&line->log, "arrow_unquoted", buf_cstr(&cure),
                           "an unquoted -> is a redirection of the shell: quote the job");
    buf_release(&cure);
    return code;
}

/* --- texts
 * ---------------------------------------------------------------------------------------- */

static bool looks_like_url(const char *word) {
    size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789+.-");
    return n > 1 && word[n] == ':';
}

static void log_mistakes(struct command_line *line, const char *origin, const struct job_spec *spec,
                         const struct mistakes *m) {
    struct log log = line->log;
    log.job = spec->name;
    log.hide = hide_text;
    log.hidden = spec->hide;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct mistake *one = &m->at[i];
        struct err err = ERR_INIT;
        err_set(&err, ERR_FATAL, one->code, "%s:%u:%u: %s", origin, one->place.line,
                one->place.column, one->text);
        if (one->cure[0]) {
            err_cure(&err, "%s", one->cure);
        }
        log_err(&log, "job", &err);
    }
    if (m->more > 0) {
        log_write(&log, LOG_ERROR, "job", "more_mistakes", "%s: and %u more mistakes", origin,
                  m->more);
    }
}

static void add_text(struct command_line *line, struct jobs *out, enum job_spec_need need,
                     const char *text, size_t len, const char *file) {
    struct mistakes mistakes;
    mistakes_init(&mistakes);
    struct job_spec *spec = job_spec_new(text, len, file, need, &put_in_os, &mistakes);
    if (mistakes.count > 0) {
        log_mistakes(line, file ? file : "job", spec, &mistakes);
        out->code = worse(out->code, EXIT_USAGE);
        job_spec_free(spec);
    } else {
        out->at = xrealloc(out->at, (out->count + 1) * sizeof *out->at);
        out->at[out->count++] = spec;
    }
    mistakes_release(&mistakes);
}

static void add_file(struct command_line *line, struct jobs *out, enum job_spec_need need,
                     const char *path) {
    struct err err = ERR_INIT;
    struct file *file = NULL;
    enum files_result r = files_open_read(files_os(), path, &file, &err);
    if (r == FILES_ABSENT) {
        struct buf shown; /* it may be a URL with a typing error */
        buf_init(&shown, SIZE_MAX);
        url_put_without_secret(&shown, path, strlen(path));
        out->code = worse(
            out->code,
            usage_error(&line->log, "job_missing",
                        "a job is a file, a folder, 'SOURCE -> SINK' in quotes, or SOURCE and SINK",
                        "job \"%.200s\": no such file or folder", buf_cstr(&shown)));
        buf_release(&shown);
        return;
    }
    char *text = NULL;
    size_t got = 0;
    int rc = r == FILES_OK ? 0 : -1;
    if (rc == 0) {
        text = xmalloc(JOB_TEXT_BYTES_MAX + 1);
        rc = file_read_at(file, 0, text, JOB_TEXT_BYTES_MAX + 1, &got, &err);
        file_close(file);
    }
    if (rc) {
        err_exit(&err, EXIT_USAGE);
        out->code = worse(out->code, report_error(&line->log, "job", &err));
    } else {
        add_text(line, out, need, text, got, path);
    }
    if (text) {
        explicit_bzero(text, got);
        free(text);
    }
}

static void add_folder(struct command_line *line, struct jobs *out, enum job_spec_need need,
                       const char *path) {
    struct buf names;
    struct err err = ERR_INIT;
    uint32_t found = 0;
    buf_init(&names, 16u << 20);
    if (files_list(files_os(), path, &names, &err) != FILES_OK) {
        if (err.kind == ERR_NONE) {
            err_set(&err, ERR_FATAL, "job_missing", "folder \"%s\" is gone", path);
        }
        err_exit(&err, EXIT_USAGE);
        out->code = worse(out->code, report_error(&line->log, "job", &err));
    } else {
        for (const char *p = names.data; names.len > 0 && p < names.data + names.len;
             p += strlen(p) + 1) {
            size_t len = strlen(p);
            if (len > 5 && p[0] != '.' && strcmp(p + len - 5, ".sync") == 0) {
                char *file = xasprintf("%s/%s", path, p);
                add_file(line, out, need, file);
                free(file);
                found++;
            }
        }
        if (found == 0) {
            out->code =
                worse(out->code, usage_error(&line->log, "job_missing", NULL,
                                             "folder \"%.200s\" holds no *.sync file", path));
        }
    }
    buf_release(&names);
}

/* Two jobs of one name would be one job twice. */
static void refuse_doubles(struct command_line *line, struct jobs *out) {
    for (uint32_t i = 0; i < out->count; i++) {
        for (uint32_t j = i + 1; j < out->count;) {
            if (strcmp(out->at[i]->name, out->at[j]->name) != 0) {
                j++;
                continue;
            }
            out->code = worse(out->code,
                              usage_error(&line->log, "job_twice",
                                          "name one of them with ?job=NAME on its sink",
                                          "two jobs have the name \"%s\": the second is left out",
                                          out->at[i]->name));
            job_spec_free(out->at[j]);
            memmove(&out->at[j], &out->at[j + 1], (out->count - j - 1) * sizeof *out->at);
            out->count--;
        }
    }
}

void jobs_load(struct command_line *line, enum job_spec_need need, struct jobs *out) {
    *out = (struct jobs){ .code = EXIT_DONE };
    if (line->word_count == 0) {
        out->code =
            usage_error(&line->log, "job_missing",
                        "a job is a file, a folder, 'SOURCE -> SINK' in quotes, or SOURCE and SINK",
                        "command \"%s\" needs a job", line->command);
        return;
    }
    for (int i = 0; i < line->word_count; i++) {
        const char *word = line->words[i];
        const char *next = line->words[i + 1];
        struct stat st;
        bool exists = stat(word, &st) == 0;
        if (strstr(word, "->")) {
            add_text(line, out, need, word, strlen(word), NULL);
        } else if (exists && S_ISDIR(st.st_mode)) {
            add_folder(line, out, need, word);
        } else if (exists || !looks_like_url(word)) {
            add_file(line, out, need, word);
        } else if (next && looks_like_url(next)) {
            char *text = xasprintf("%s -> %s", word, next);
            add_text(line, out, need, text, strlen(text), NULL);
            explicit_bzero(text, strlen(text));
            free(text);
            i++;
        } else {
            add_text(line, out, need, word, strlen(word), NULL);
        }
    }
    refuse_doubles(line, out);
}

void jobs_release(struct jobs *jobs) {
    for (uint32_t i = 0; i < jobs->count; i++) {
        job_spec_free(jobs->at[i]);
    }
    free(jobs->at);
    *jobs = (struct jobs){ .at = NULL };
}
