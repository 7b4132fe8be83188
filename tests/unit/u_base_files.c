/* files_os: against real folders. Failures that a disk makes are played by /dev/full, RLIMIT_FSIZE
 * and a system call filter. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cdc/base/files.h"
#include "tests/unit/kit.h"

static const char *in_dir(const char *name) { return kit_text("%s/%s", kit_temp_dir(), name); }

/* Creates a file that holds text. */
static bool put_file(const char *path, const char *text) {
    struct err err = ERR_INIT;
    struct file *file;
    if (files_create_excl(files_os(), path, &file, &err) != FILES_OK) {
        return false;
    }
    int failed = file_write(file, text, strlen(text), &err);
    file_close(file);
    return !failed;
}

static const char *get_file(const char *path) {
    struct err err = ERR_INIT;
    struct file *file;
    static char text[1000];
    size_t got = 0;
    if (files_open_read(files_os(), path, &file, &err) != FILES_OK) {
        return NULL;
    }
    int failed = file_read_at(file, 0, text, sizeof text - 1, &got, &err);
    file_close(file);
    text[got] = '\0';
    return failed ? NULL : text;
}

TEST(files_write_appends_and_read_at_stops_at_the_end) {
    struct files *f = files_os();
    struct err err = ERR_INIT;
    struct file *file = NULL;
    const char *path = in_dir("a");
    if (!EXPECT_EQ_INT(files_create_excl(f, path, &file, &err), FILES_OK)) {
        return;
    }
    EXPECT_EQ_INT(file_write(file, "hello ", 6, &err), 0);
    EXPECT_EQ_INT(file_write(file, "", 0, &err), 0);
    EXPECT_EQ_INT(file_write(file, "world", 5, &err), 0);
    EXPECT_EQ_INT(file_sync(file, &err), 0);
    uint64_t size = 0;
    EXPECT_EQ_INT(file_size(file, &size, &err), 0);
    EXPECT_EQ_U64(size, 11);
    char text[20];
    size_t got = 0;
    EXPECT_EQ_INT(file_read_at(file, 0, text, 5, &got, &err), -1); /* opened for writing only */
    EXPECT_EQ_STR(err.code, "file_error");
    file_close(file);
    struct stat st;
    EXPECT_TRUE(stat(path, &st) == 0 && (st.st_mode & 0137) == 0);
    if (!EXPECT_EQ_INT(files_open_read(f, path, &file, &err), FILES_OK)) {
        return;
    }
    EXPECT_EQ_INT(file_read_at(file, 6, text, 20, &got, &err), 0);
    EXPECT_EQ_MEM(text, got, "world", 5);
    EXPECT_EQ_INT(file_read_at(file, 2, text, 3, &got, &err), 0);
    EXPECT_EQ_MEM(text, got, "llo", 3);
    EXPECT_EQ_INT(file_read_at(file, 99, text, 20, &got, &err), 0);
    EXPECT_EQ_INT(got, 0);
    EXPECT_EQ_INT(file_write(file, "x", 1, &err), -1);
    file_close(file);
    file_close(NULL);
}

TEST(files_map_outlives_the_file_and_its_name) {
    struct files *f = files_os();
    struct err err = ERR_INIT;
    struct file *file = NULL;
    const void *bytes = NULL;
    EXPECT_TRUE(put_file(in_dir("a"), "hello world"));
    if (!EXPECT_EQ_INT(files_open_read(f, in_dir("a"), &file, &err), FILES_OK)) {
        return;
    }
    int result = file_map(file, 11, &bytes, &err);
    file_close(file);
    EXPECT_EQ_INT(files_unlink(f, in_dir("a"), &err), FILES_OK);
    if (EXPECT_EQ_INT(result, 0)) {
        EXPECT_EQ_MEM(bytes, 11, "hello world", 11);
    }
    files_unmap(f, bytes, 11);
    files_unmap(f, NULL, 0);
}

TEST(files_names_taken_and_names_absent_are_results) {
    struct files *f = files_os();
    struct err err = ERR_INIT;
    struct file *file = NULL;
    struct buf names;
    buf_init(&names, 1000);
    EXPECT_TRUE(put_file(in_dir("a"), "1"));
    EXPECT_EQ_INT(files_create_excl(f, in_dir("a"), &file, &err), FILES_EXISTS);
    EXPECT_EQ_INT(files_open_read(f, in_dir("b"), &file, &err), FILES_ABSENT);
    EXPECT_EQ_INT(files_unlink(f, in_dir("b"), &err), FILES_ABSENT);
    EXPECT_EQ_INT(files_unlink(f, in_dir("a"), &err), FILES_OK);
    EXPECT_EQ_INT(files_unlink(f, in_dir("a"), &err), FILES_ABSENT);
    EXPECT_EQ_INT(files_list(f, in_dir("none"), &names, &err), FILES_ABSENT);
    EXPECT_EQ_INT(files_rename_new(f, in_dir("b"), in_dir("c"), &err), FILES_ABSENT);
    EXPECT_EQ_INT(files_rename_over(f, in_dir("b"), in_dir("c"), &err), FILES_ABSENT);
    EXPECT_EQ_INT(err.kind, ERR_NONE);
    buf_release(&names);
}

TEST(files_errors_name_the_call_the_path_and_the_reason) {
    struct files *f = files_os();
    struct err err = ERR_INIT;
    struct file *file = NULL;
    uint64_t bytes;
    EXPECT_EQ_INT(files_create_excl(f, in_dir("no/such"), &file, &err), FILES_FAILED);
    EXPECT_EQ_STR(err.text,
                  kit_text("create \"%s/no/such\": No such file or directory", kit_temp_dir()));
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
    EXPECT_EQ_STR(err.code, "file_error");
    EXPECT_TRUE(put_file(in_dir("plain"), ""));
    EXPECT_EQ_INT(files_open_read(f, in_dir("plain/x"), &file, &err), FILES_FAILED);
    EXPECT_EQ_STR(err.text, kit_text("open \"%s/plain/x\": Not a directory", kit_temp_dir()));
    EXPECT_EQ_INT(files_rename_new(f, in_dir("plain"), in_dir("no/such"), &err), FILES_FAILED);
    EXPECT_EQ_STR(err.text,
                  kit_text("rename \"%s/plain\" to \"%s/no/such\": No such file or directory",
                           kit_temp_dir(), kit_temp_dir()));
    EXPECT_EQ_INT(files_rename_over(f, in_dir("plain"), in_dir("no/such"), &err), FILES_FAILED);
    EXPECT_EQ_INT(files_sync_dir(f, in_dir("plain"), &err), -1);
    EXPECT_EQ_INT(files_sync_dir(f, in_dir("none"), &err), -1);
    EXPECT_EQ_INT(files_free_bytes(f, in_dir("none"), &bytes, &bytes, &err), -1);
    EXPECT_EQ_INT(files_unlink(f, kit_temp_dir(), &err), FILES_FAILED);
    EXPECT_EQ_INT(files_mkdirs(f, in_dir("plain/x"), 0700, &err), FILES_FAILED);
    EXPECT_EQ_INT(files_mkdirs(f, in_dir("plain"), 0700, &err), FILES_FAILED);
    EXPECT_EQ_STR(err.text, kit_text("mkdir \"%s/plain\": Not a directory", kit_temp_dir()));
}

TEST(files_mkdirs_makes_parents) {
    struct files *f = files_os();
    struct err err = ERR_INIT;
    struct stat st;
    EXPECT_EQ_INT(files_mkdirs(f, in_dir("x//y/z"), 0700, &err), FILES_OK);
    EXPECT_TRUE(stat(in_dir("x/y/z"), &st) == 0 && S_ISDIR(st.st_mode) &&
                (st.st_mode & 0777) == 0700);
    EXPECT_EQ_INT(files_mkdirs(f, in_dir("x/y/z"), 0700, &err), FILES_OK);
    EXPECT_EQ_INT(files_mkdirs(f, in_dir("x/y/w/"), 0700, &err), FILES_OK);
    EXPECT_EQ_INT(files_mkdirs(f, "/", 0700, &err), FILES_OK);
    EXPECT_EQ_INT(files_sync_dir(f, in_dir("x/y"), &err), 0);
}

TEST(files_rename_new_never_replaces) {
    struct files *f = files_os();
    struct err err = ERR_INIT;
    EXPECT_TRUE(put_file(in_dir("from"), "new") && put_file(in_dir("taken"), "old"));
    EXPECT_EQ_INT(files_rename_new(f, in_dir("from"), in_dir("taken"), &err), FILES_EXISTS);
    EXPECT_EQ_STR(get_file(in_dir("taken")), "old");
    EXPECT_EQ_STR(get_file(in_dir("from")), "new");
    EXPECT_EQ_INT(files_rename_new(f, in_dir("from"), in_dir("to"), &err), FILES_OK);
    EXPECT_EQ_STR(get_file(in_dir("to")), "new");
    EXPECT_EQ_STR(get_file(in_dir("from")), NULL);
    EXPECT_EQ_INT(files_rename_new(f, in_dir("from"), in_dir("to2"), &err), FILES_ABSENT);
    EXPECT_EQ_INT(err.kind, ERR_NONE);
}

TEST(files_rename_over_replaces) {
    struct err err = ERR_INIT;
    EXPECT_TRUE(put_file(in_dir("from"), "new") && put_file(in_dir("to"), "old"));
    EXPECT_EQ_INT(files_rename_over(files_os(), in_dir("from"), in_dir("to"), &err), FILES_OK);
    EXPECT_EQ_STR(get_file(in_dir("to")), "new");
    EXPECT_EQ_STR(get_file(in_dir("from")), NULL);
}

/* From here on renameat2 answers EINVAL in this process, as on a file system that knows no
 * RENAME_NOREPLACE. */
static bool forbid_renameat2(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { ARRAY_COUNT(filter), filter };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

enum { CHILD_RIGHT = 0, CHILD_WRONG = 1, CHILD_NO_FILTER = 2 };

/* In a child: 0 only if the filter works and every answer is right. */
static void rename_by_link(void *arg) {
    const char *dir = arg;
    struct files *f = files_os();
    struct err err = ERR_INIT;
    char *from = xasprintf("%s/from", dir);
    char *taken = xasprintf("%s/taken", dir);
    char *to = xasprintf("%s/to", dir);
    bool right = put_file(from, "new") && put_file(taken, "old");
    if (!forbid_renameat2() || syscall(SYS_renameat2, 0, "", 0, "", 0) == 0 || errno != EINVAL) {
        _exit(CHILD_NO_FILTER);
    }
    right = right && files_rename_new(f, from, taken, &err) == FILES_EXISTS;
    right = right && strcmp(get_file(taken), "old") == 0 && strcmp(get_file(from), "new") == 0;
    right = right && files_rename_new(f, from, to, &err) == FILES_OK;
    right = right && strcmp(get_file(to), "new") == 0 && get_file(from) == NULL;
    right = right && files_rename_new(f, from, to, &err) == FILES_ABSENT && err.kind == ERR_NONE;
    free(from);
    free(taken);
    free(to);
    _exit(right ? CHILD_RIGHT : CHILD_WRONG);
}

TEST(files_rename_new_falls_back_to_link_and_unlink) {
    int status = kit_child(rename_by_link, (void *)(uintptr_t)kit_temp_dir());
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ_INT(WEXITSTATUS(status), CHILD_RIGHT);
}

TEST(files_lock_has_one_holder) {
    struct files *f = files_os();
    struct err err = ERR_INIT;
    struct file *one = NULL;
    struct file *two = NULL;
    if (!EXPECT_EQ_INT(files_open_lock(f, in_dir("lock"), &one, &err), FILES_OK)) {
        return;
    }
    EXPECT_EQ_INT(files_open_lock(f, in_dir("lock"), &two, &err), FILES_EXISTS);
    EXPECT_EQ_INT(file_write(one, "pid", 3, &err), 0);
    file_close(one);
    EXPECT_EQ_INT(files_open_lock(f, in_dir("lock"), &two, &err), FILES_OK);
    EXPECT_EQ_INT(file_write(two, "!", 1, &err), 0);
    file_close(two);
    EXPECT_EQ_STR(get_file(in_dir("lock")), "pid!");
    EXPECT_EQ_INT(files_open_lock(f, in_dir("no/such"), &two, &err), FILES_FAILED);
    EXPECT_EQ_INT(err.kind, ERR_FATAL);
}

TEST(files_list_sorts_names_bytewise) {
    struct files *f = files_os();
    struct err err = ERR_INIT;
    struct buf names;
    buf_init(&names, 100);
    EXPECT_EQ_INT(files_list(f, kit_temp_dir(), &names, &err), FILES_OK);
    EXPECT_EQ_INT(names.len, 0);
    static const char *const created[] = {
        "b", "a", "B", ".hidden", "ab", "\xc3\xa9", "0000000000000010", "0000000000000009"
    };
    for (size_t i = 0; i < ARRAY_COUNT(created); i++) {
        EXPECT_TRUE(put_file(in_dir(created[i]), ""));
    }
    buf_puts(&names, "left over");
    EXPECT_EQ_INT(files_list(f, kit_temp_dir(), &names, &err), FILES_OK);
    static const char want[] = ".hidden\0"
                               "0000000000000009\0"
                               "0000000000000010\0"
                               "B\0"
                               "a\0"
                               "ab\0"
                               "b\0"
                               "\xc3\xa9";
    EXPECT_EQ_MEM(names.data, names.len, want, sizeof want);
    buf_release(&names);
    buf_init(&names, sizeof want - 1);
    EXPECT_EQ_INT(files_list(f, kit_temp_dir(), &names, &err), FILES_FAILED);
    EXPECT_EQ_STR(err.code, "list_too_long");
    buf_release(&names);
}

TEST(files_full_disk_has_its_own_code_and_cure) {
    struct files *f = files_os();
    struct err err = ERR_INIT;
    struct file *file = NULL;
    if (!EXPECT_EQ_INT(files_open_lock(f, "/dev/full", &file, &err),
                       FILES_OK)) { /* the way to open it for writing */
        return;
    }
    EXPECT_EQ_INT(file_write(file, "x", 1, &err), -1);
    EXPECT_EQ_STR(err.code, "disk_full");
    EXPECT_EQ_STR(err.text, "write \"/dev/full\": No space left on device");
    EXPECT_EQ_INT(
        err.kind,
        ERR_REWIND); /* a device has no length to cut back to, so a retry would not be safe */
    EXPECT_EQ_STR(err.cure, "free space, see: df -h \"/dev/full\"");
    file_close(file);
    uint64_t space = 0;
    uint64_t total = 0;
    EXPECT_EQ_INT(files_free_bytes(f, kit_temp_dir(), &space, &total, &err), 0);
    EXPECT_TRUE(total > 0 && space <= total);
}

/* In a child: a write that is cut in its middle by the limit of a file's size leaves the file as it
 * was. */
static void write_beyond_limit(void *arg) {
    struct err err = ERR_INIT;
    struct file *file = NULL;
    uint64_t size = 0;
    static char bytes[4096];
    struct rlimit limit = { 1000, 1000 };
    signal(SIGXFSZ, SIG_IGN);
    bool right = files_create_excl(files_os(), arg, &file, &err) == FILES_OK &&
                 setrlimit(RLIMIT_FSIZE, &limit) == 0;
    right = right && file_write(file, bytes, 600, &err) == 0 &&
            file_write(file, bytes, sizeof bytes, &err) == -1;
    right = right && file_size(file, &size, &err) == 0 && size == 600 &&
            strstr(err.text, "write \"") == err.text;
    right = right && file_write(file, bytes, 400, &err) == 0 && file_size(file, &size, &err) == 0 &&
            size == 1000;
    if (file) {
        file_close(file);
    }
    _exit(right ? CHILD_RIGHT : CHILD_WRONG);
}

TEST(files_failed_write_takes_back_its_first_half) {
    int status = kit_child(write_beyond_limit, (void *)(uintptr_t)in_dir("limited"));
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ_INT(WEXITSTATUS(status), CHILD_RIGHT);
}
