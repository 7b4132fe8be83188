/* tailrace: the process. Sets what belongs to the whole process (allocator, signals that end
 * writes), then runs one command. Thread: main; the tasks of jobs are started by `run`. */
#include <malloc.h>
#include <signal.h>

#include "config/cmd/command_line.h"

/* --memory is a ceiling on what the process holds, not on what it uses, and glibc's defaults keep
 * freed memory: an arena for each thread, and thresholds that grow with the largest block freed.
 * Batches of a MiB stay in the heap (mapping each anew costs a third of a snapshot's CPU), larger
 * blocks go back to the system at once. */
static void bound_allocator(void) {
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

int main(int argc, char **argv) {
    struct command_line line;
    struct err err = ERR_INIT;
    bound_allocator();
    signal(SIGPIPE,
           SIG_IGN); /* a closed pipe is an error of a write, which has a text and a code */
    int code = EXIT_USAGE;
    if (command_line_init(&line, argc, argv, &err)) {
        code = report_error(&line.log, "cli", &err);
    } else {
        code = command_line_run(&line);
    }
    command_line_release(&line);
    return code;
}
