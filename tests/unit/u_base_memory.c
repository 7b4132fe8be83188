/* buf, view, arena, check. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "cdc/base/arena.h"
#include "cdc/base/buf.h"
#include "tests/unit/kit.h"

#define EXPECT_BUF(b, want) EXPECT_EQ_STR(buf_cstr(b), (want))

TEST(buf_add_beyond_the_maximum_changes_nothing) {
    struct buf b;
    buf_init(&b, 100);
    char bytes[101];
    memset(bytes, 'x', sizeof bytes);
    EXPECT_EQ_INT(buf_add(&b, bytes, 101), -1);
    EXPECT_EQ_INT(b.len, 0);
    EXPECT_EQ_INT(buf_add(&b, bytes, 60), 0);
    EXPECT_EQ_INT(buf_add(&b, bytes, 41), -1);
    EXPECT_EQ_INT(b.len, 60);
    EXPECT_EQ_INT(buf_add(&b, bytes, 40), 0);
    EXPECT_EQ_INT(b.len, 100);
    EXPECT_EQ_INT(strlen(buf_cstr(&b)), 100); /* the NUL needs no room below the maximum */
    EXPECT_EQ_INT(buf_add(&b, bytes, 1), -1);
    EXPECT_EQ_INT(buf_reserve(&b, 1), -1);
    EXPECT_EQ_INT(buf_add(&b, bytes, 0), 0);
    EXPECT_EQ_INT(buf_reserve(&b, SIZE_MAX), -1);
    buf_release(&b);
}

TEST(buf_of_maximum_zero_holds_nothing) {
    struct buf b;
    buf_init(&b, 0);
    EXPECT_EQ_INT(buf_add(&b, "a", 1), -1);
    EXPECT_BUF(&b, "");
    buf_release(&b);
}

TEST(buf_without_limit_refuses_what_no_system_has) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    buf_putc(&b, 'a');
    EXPECT_EQ_INT(buf_reserve(&b, SIZE_MAX), -1);
    EXPECT_EQ_INT(buf_reserve(&b, SIZE_MAX / 2), -1);
    EXPECT_BUF(&b, "a");
    buf_release(&b);
}

TEST(buf_keeps_its_bytes_while_it_grows) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    for (int i = 0; i < 10000; i++) {
        buf_putc(&b, (char)('a' + i % 26));
    }
    bool right = b.len == 10000;
    for (int i = 0; right && i < 10000; i++) {
        right = b.data[i] == (char)('a' + i % 26);
    }
    EXPECT_TRUE(right);
    buf_clear(&b);
    EXPECT_EQ_INT(b.len, 0);
    EXPECT_TRUE(b.cap >= 10000);
    buf_release(&b);
    EXPECT_TRUE(b.data == NULL && b.cap == 0);
}

TEST(buf_put_formats_numbers_like_printf) {
    static const uint64_t numbers[] = { 0,
                                        1,
                                        9,
                                        10,
                                        11,
                                        99,
                                        100,
                                        101,
                                        999,
                                        1000,
                                        65535,
                                        123456789,
                                        1000000000,
                                        4294967296,
                                        9223372036854775807,
                                        9223372036854775808u,
                                        UINT64_MAX };
    struct buf b;
    buf_init(&b, SIZE_MAX);
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        buf_clear(&b);
        buf_put_u64(&b, numbers[i]);
        EXPECT_BUF(&b, kit_text("%llu", (unsigned long long)numbers[i]));
        buf_clear(&b);
        buf_put_i64(&b, (int64_t)numbers[i]);
        EXPECT_BUF(&b, kit_text("%lld", (long long)(int64_t)numbers[i]));
        buf_clear(&b);
        buf_put_i64(&b, -(int64_t)(numbers[i] / 2));
        EXPECT_BUF(&b, kit_text("%lld", -(long long)(numbers[i] / 2)));
    }
    buf_clear(&b);
    buf_put_i64(&b, INT64_MIN);
    EXPECT_BUF(&b, "-9223372036854775808");
    buf_release(&b);
}

TEST(buf_putf_appends_up_to_the_maximum) {
    struct buf b;
    buf_init(&b, 8);
    buf_putf(&b, "%s-%d", "ab", 12);
    EXPECT_BUF(&b, "ab-12");
    buf_putf(&b, "%s", "");
    buf_putf(&b, "%03d", 7);
    EXPECT_BUF(&b, "ab-12007");
    EXPECT_EQ_INT(b.len, 8);
    buf_release(&b);
}

static void put_beyond(void *arg) {
    struct buf b;
    buf_init(&b, 3);
    buf_puts(&b, arg);
}

TEST(buf_put_beyond_the_maximum_aborts) {
    int status = kit_child(put_beyond, "four");
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    EXPECT_EQ_INT(kit_child(put_beyond, "thr"), 0);
}

TEST(view_takes_numbers_in_network_order_and_never_too_much) {
    static const uint8_t bytes[] = { 1, 0x12, 0x34, 0xFF, 0xFE, 0xFD, 0xFC, 1, 2,  3,
                                     4, 5,    6,    7,    8,    'h',  'i',  0, 'x' };
    struct view v = view_of(bytes, sizeof bytes);
    uint8_t u8 = 0;
    uint16_t u16 = 0;
    uint32_t u32 = 0;
    uint64_t u64 = 0;
    const char *text = NULL;
    const uint8_t *at = NULL;
    EXPECT_TRUE(!take_u8(&v, &u8) && !take_u16be(&v, &u16) && !take_u32be(&v, &u32) &&
                !take_u64be(&v, &u64));
    EXPECT_EQ_INT(u8, 1);
    EXPECT_EQ_INT(u16, 0x1234);
    EXPECT_EQ_INT(u32, 0xFFFEFDFC);
    EXPECT_EQ_U64(u64, UINT64_C(0x0102030405060708));
    EXPECT_EQ_INT(take_cstr(&v, &text), 0);
    EXPECT_EQ_STR(text, "hi");
    EXPECT_EQ_INT(take_cstr(&v, &text), -1); /* no NUL behind the x */
    EXPECT_EQ_INT(take_bytes(&v, 2, &at), -1);
    EXPECT_EQ_INT(take_u16be(&v, &u16), -1);
    EXPECT_EQ_INT(view_left(&v), 1); /* a refused take moves nothing */
    EXPECT_EQ_INT(take_bytes(&v, 1, &at), 0);
    EXPECT_EQ_INT(*at, 'x');
    EXPECT_EQ_INT(take_u8(&v, &u8), -1);
    EXPECT_EQ_INT(take_cstr(&v, &text), -1);
    struct view short_view = view_of(bytes, 7);
    EXPECT_EQ_INT(take_u64be(&short_view, &u64), -1);
    short_view = view_of(bytes, 3);
    EXPECT_EQ_INT(take_u32be(&short_view, &u32), -1);
}

TEST(arena_gives_aligned_separate_memory) {
    struct arena arena;
    arena_init(&arena);
    static const size_t sizes[] = { 1, 16, 0, 17, 100, 5000, 3, 4096, 300000, 40, 1 };
    char *blocks[200];
    for (size_t i = 0; i < 200; i++) {
        size_t size = sizes[i % ARRAY_COUNT(sizes)];
        blocks[i] = arena_alloc(&arena, size);
        EXPECT_EQ_INT((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)i, size);
    }
    bool intact = true;
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < sizes[i % ARRAY_COUNT(sizes)]; k++) {
            intact = intact && blocks[i][k] == (char)i;
        }
    }
    EXPECT_TRUE(intact);
    EXPECT_TRUE(arena.used >= 18 * 300000 && arena.held >= arena.used);
    EXPECT_TRUE(arena.held < arena.used + arena.used / 2);
    arena_release(&arena);
    EXPECT_TRUE(arena.used == 0 && arena.held == 0 && arena.head == NULL);
}

TEST(arena_copies_and_zeroes) {
    struct arena arena;
    arena_init(&arena);
    memset(arena_alloc(&arena, 64), 0xFF, 64);
    EXPECT_EQ_STR(arena_strdup(&arena, "text"), "text");
    EXPECT_EQ_MEM(arena_copy(&arena, "a\0b", 3), 3, "a\0b", 3);
    EXPECT_TRUE(arena_copy(&arena, NULL, 0) != NULL);
    static const char zeroes[40];
    EXPECT_EQ_MEM(arena_zalloc(&arena, 40), 40, zeroes, 40);
    arena_release(&arena);
}

TEST(check_allocators_copy_text) {
    char *a = xstrdup("abc");
    char *b = xstrndup("abc", 2);
    char *c = xstrndup("abc", 9);
    char *d = xasprintf("%s/%d", "path", 5);
    EXPECT_EQ_STR(a, "abc");
    EXPECT_EQ_STR(b, "ab");
    EXPECT_EQ_STR(c, "abc");
    EXPECT_EQ_STR(d, "path/5");
    free(a);
    free(b);
    free(c);
    free(d);
    free(xmalloc(0));
    free(xcalloc(0, 8));
}

static void check_lie(void *arg) { CHECK(arg != NULL); }

TEST(check_aborts_only_when_it_fails) {
    EXPECT_EQ_INT(kit_child(check_lie, ""), 0);
    int status = kit_child(check_lie, NULL);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
