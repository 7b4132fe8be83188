/* The unit tests' kit. TEST(behaviour) registers itself; the binary runs all of them, or those
 * whose name contains its argument. Each test prints one line: `ok NAME`, or `not ok NAME
 * FILE:LINE: got .. want ..` with its first failure. A test goes on after a failure, so a
 * precondition reads `if (!EXPECT_TRUE(p)) { return; }`: every EXPECT_ is an expression that says
 * whether it held. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};
void test_register(struct test *test);

#define TEST(behaviour)                                                                            \
    static void test_##behaviour(void);                                                            \
    __attribute__((constructor)) static void register_##behaviour(void) {                          \
        static struct test test = { #behaviour, test_##behaviour, NULL };                          \
        test_register(&test);                                                                      \
    }                                                                                              \
    static void test_##behaviour(void)

#define EXPECT_TRUE(cond) expect_true((cond), #cond, __FILE__, __LINE__)
#define EXPECT_EQ_INT(got, want) expect_int((int64_t)(got), (int64_t)(want), __FILE__, __LINE__)
#define EXPECT_EQ_U64(got, want) expect_u64((got), (want), __FILE__, __LINE__)
#define EXPECT_EQ_STR(got, want)                                                                   \
    expect_str((got), (want), __FILE__, __LINE__) /* NULL equals NULL only */
#define EXPECT_EQ_MEM(got, got_len, want, want_len)                                                \
    expect_mem((got), (got_len), (want), (want_len), __FILE__, __LINE__)

bool expect_true(bool held, const char *text, const char *file, int line);
bool expect_int(int64_t got, int64_t want, const char *file, int line);
bool expect_u64(uint64_t got, uint64_t want, const char *file, int line);
bool expect_str(const char *got, const char *want, const char *file, int line);
bool expect_mem(const void *got, size_t got_len, const void *want, size_t want_len,
                const char *file, int line);

/* Runs a function in a child process with standard error closed, and waits: its status as waitpid
 * gives it; it exits 0 if the function returns. Expectations do not count in there. */
int kit_child(void (*run)(void *arg), void *arg);
/* An empty folder of this test's own, removed with all that is in it when the test ends. Without a
 * slash at its end. */
const char *kit_temp_dir(void);
/* Formats a path or another text that lives until the test ends. */
const char *kit_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
