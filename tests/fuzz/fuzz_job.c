/* Fuzz target of the job language: any bytes are a job text. Whatever is read must hold together:
 * places lie in the text, a job without mistakes has a name and both doors, its rules answer for
 * any table, and nothing that was put in is in a message. */
#include <stdint.h>
#include <string.h>

#include "config/job_spec.h"

/* No hexadecimal digit at its beginning: a typed byte 9c is said as \x9c, which must not complete
 * it. */
#define CANARY "s4cret-of-the-fuzzer"

static const char *canary_env(void *ctx, const char *name) {
    (void)ctx;
    return strchr(name, 'x') ? NULL : CANARY;
}
static int canary_file(void *ctx, const char *path, struct buf *out, char *why, size_t why_cap) {
    (void)ctx;
    if (strchr(path, 'x')) {
        strncpy(why, "no such file", why_cap - 1);
        return -1;
    }
    buf_puts(out, CANARY "\n");
    return 0;
}
static const struct put_in canary = { .env = canary_env, .file = canary_file };

static void check_mistakes(const struct mistakes *m, const uint8_t *data, size_t size) {
    bool typed = memmem(data, size, CANARY, strlen(CANARY)) != NULL; /* then it is no secret */
    uint32_t lines = 1;
    for (size_t i = 0; i < size; i++) {
        lines += data[i] == '\n';
    }
    for (uint32_t i = 0; i < m->count; i++) {
        CHECK(m->at[i].place.line >= 1 && m->at[i].place.line <= lines);
        CHECK(m->at[i].place.column >= 1 && m->at[i].place.column <= size + 1);
        CHECK(m->at[i].code[0] && m->at[i].text[0]);
        CHECK(typed || (!strstr(m->at[i].text, CANARY) && !strstr(m->at[i].cure, CANARY)));
        CHECK(i == 0 || m->at[i - 1].place.line <= m->at[i].place.line);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    enum job_spec_need need = data[0] & 1 ? JOB_NEEDS_BOTH : JOB_NEEDS_SOURCE;
    const char *file = data[0] & 2 ? "dir/Name of a job.sync" : NULL;
    struct mistakes m;
    mistakes_init(&m);
    struct job_spec *spec = job_spec_new((const char *)data + 1, size - 1, file, need, &canary, &m);
    check_mistakes(&m, data + 1, size - 1);
    CHECK(identity_is_plain(spec->name));
    if (m.count == 0) {
        struct table_choice choice;
        CHECK(spec->source && (spec->sink || need == JOB_NEEDS_SOURCE));
        rules_select(&spec->rules, "public", "orders", &choice);
        rules_select(&spec->rules, "", "\xFF", &choice);
        CHECK(!choice.key || choice.key[0]);
    }
    job_spec_free(spec);
    mistakes_release(&m);
    return 0;
}
