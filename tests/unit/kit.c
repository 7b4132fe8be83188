/* Runs the registered tests in the order of registration, in one process and one thread. Tests may
 * start tasks; expectations belong to the main thread. */
#include "tests/unit/kit.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEXTS_MAX = 256, SHOWN_BYTES_MAX = 2000 };

static struct test *first_test;
static struct test **last_link = &first_test;
static char failure[8192]; /* of the current test; "" if it holds so far */
static char *texts[TEXTS_MAX];
static size_t text_count;
static const char *temp_dir; /* of the current test, or NULL */

void test_register(struct test *test) {
    *last_link = test;
    last_link = &test->next;
}

__attribute__((format(printf, 3, 4))) static bool fail(const char *file, int line, const char *fmt,
                                                       ...) {
    if (failure[0] == '\0') {
        int n = snprintf(failure, sizeof failure, "%s:%d: ", file, line);
        va_list args;
        va_start(args, fmt);
        vsnprintf(failure + n, sizeof failure - (size_t)n, fmt, args);
        va_end(args);
    }
    return false;
}

bool expect_true(bool held, const char *text, const char *file, int line) {
    return held || fail(file, line, "got false want %s", text);
}

bool expect_int(int64_t got, int64_t want, const char *file, int line) {
    return got == want || fail(file, line, "got %" PRId64 " want %" PRId64, got, want);
}

bool expect_u64(uint64_t got, uint64_t want, const char *file, int line) {
    return got == want || fail(file, line, "got %" PRIu64 " want %" PRIu64, got, want);
}

bool expect_str(const char *got, const char *want, const char *file, int line) {
    bool same = got && want ? strcmp(got, want) == 0 : got == want;
    return same ||
           fail(file, line, "got \"%s\" want \"%s\"", got ? got : "(NULL)", want ? want : "(NULL)");
}

/* Bytes as text, what is not printable as \xNN. */
static void show(char *out, const void *bytes, size_t len) {
    const uint8_t *at = bytes;
    size_t used = 0;
    for (size_t i = 0; i < len && used < SHOWN_BYTES_MAX; i++) {
        bool plain = at[i] >= 0x20 && at[i] < 0x7F && at[i] != '\\';
        used += (size_t)snprintf(out + used, 5, plain ? "%c" : "\\x%02x", at[i]);
    }
    out[used] = '\0';
}

bool expect_mem(const void *got, size_t got_len, const void *want, size_t want_len,
                const char *file, int line) {
    if (got_len == want_len && (got_len == 0 || memcmp(got, want, got_len) == 0)) {
        return true;
    }
    char shown_got[SHOWN_BYTES_MAX + 8];
    char shown_want[SHOWN_BYTES_MAX + 8];
    show(shown_got, got, got_len);
    show(shown_want, want, want_len);
    return fail(file, line, "got %zu bytes %s want %zu bytes %s", got_len, shown_got, want_len,
                shown_want);
}

int kit_child(void (*run)(void *arg), void *arg) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none); /* a wanted crash leaves no file behind */
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);
        run(arg);
        _exit(0);
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        abort();
    }
    return status;
}

const char *kit_text(const char *fmt, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    if (text_count == TEXTS_MAX || vasprintf(&text, fmt, args) < 0) {
        abort();
    }
    va_end(args);
    texts[text_count++] = text;
    return text;
}

const char *kit_temp_dir(void) {
    if (!temp_dir) {
        const char *parent = getenv("TMPDIR");
        char *path =
            (char *)(uintptr_t)kit_text("%s/tailrace-unit-XXXXXX", parent ? parent : "/tmp");
        if (!mkdtemp(path)) {
            abort();
        }
        temp_dir = path;
    }
    return temp_dir;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static bool run_test(const struct test *test) {
    failure[0] = '\0';
    test->run();
    if (temp_dir) {
        nftw(temp_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        temp_dir = NULL;
    }
    while (text_count > 0) {
        free(texts[--text_count]);
    }
    printf(failure[0] ? "not ok %s %s\n" : "ok %s\n", test->name, failure);
    fflush(stdout);
    return failure[0] == '\0';
}

int main(int argc, char **argv) {
    int passed = 0;
    int failed = 0;
    for (const struct test *test = first_test; test; test = test->next) {
        if (argc < 2 || strstr(test->name, argv[1])) {
            *(run_test(test) ? &passed : &failed) += 1;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0 ? 1 : 0;
}
