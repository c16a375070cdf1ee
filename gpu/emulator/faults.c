/* What is said of a fault: at which line of the kernel, by whom; and where nobody can go on, who waits for what. */
#include "load_image.h"
#include "scheduler.h"
#include "temporary.h"

#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* --- Lines */

/* "/folder/08_pipeline.cu:57 (discriminator 3)" of addr2line to "/folder/08_pipeline.cu(57)"; false: it does not know. */
static bool read_place(const char *answer, char *text, size_t bytes) {
  const char *colon = strrchr(answer, ':');
  long line = colon ? strtol(colon + 1, NULL, 10) : 0;
  if (line <= 0) return false;
  if (strncmp(answer, "./", 2) == 0) answer += 2;
  snprintf(text, bytes, "%.*s(%ld)", (int)(colon - answer), answer, line);
  return true;
}

static bool is_kernel(const char *place) {
  const char *bracket = strrchr(place, '(');
  return bracket && bracket - place > 3 && strncmp(bracket - 3, ".cu", 3) == 0;
}

/* addr2line's answer begins with the innermost of the functions that the compiler put into each other. Those of the vocabulary
 * (.cuh) are passed over, unless nothing else is there. */
static void read_places(FILE *answers, char text[LINE_BYTES]) {
  char answer[4096], place[LINE_BYTES];
  while (fgets(answer, sizeof answer, answers))
    if (read_place(answer, place, sizeof place) && !is_kernel(text) && (is_kernel(place) || strcmp(text, "?") == 0))
      memcpy(text, place, sizeof place);
}

/* What `program` with these arguments writes to its standard output; NULL: it could not be started. */
static FILE *start(char *const arguments[], pid_t *child) {
  int ends[2];
  if (pipe(ends) != 0) return NULL;
  posix_spawn_file_actions_t actions;
  FILE *answers = NULL;
  if (posix_spawn_file_actions_init(&actions) == 0) {
    bool is_ready = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO) == 0 &&
                    posix_spawn_file_actions_addclose(&actions, ends[0]) == 0 &&
                    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0;
    if (is_ready && posix_spawnp(child, arguments[0], &actions, NULL, arguments, environ) == 0) answers = fdopen(ends[0], "r");
    posix_spawn_file_actions_destroy(&actions);
  }
  close(ends[1]);
  if (!answers) close(ends[0]);
  return answers;
}

/* A return address is behind the call, perhaps already in the next line. */
static void ask(const struct emu_image *image, const void *where, char text[LINE_BYTES]) {
  char path[EMU_PATH_BYTES], address[32];
  snprintf(text, LINE_BYTES, "?");
  if (!image || !emu_image_file(image, path, sizeof path)) return;
  snprintf(address, sizeof address, "%#" PRIxPTR, (uintptr_t)where - 1 - image->base);
  pid_t child;
  FILE *answers = start((char *[]){"addr2line", "-i", "-e", path, address, NULL}, &child);
  if (answers) {
    read_places(answers, text);
    fclose(answers);
    waitpid(child, NULL, 0);
  }
  emu_image_file_remove(path);
}

/* The last answers are kept, as those who meet at different addresses of one line do so again and again. */
void emu_line(const struct emu_image *image, const void *where, char *text, size_t bytes) {
  struct emu_kept_line *kept = &emu_scheduler->lines[(uintptr_t)where / 2 % LINES_KEPT];
  if (kept->where != where || !kept->text[0]) {
    ask(image, where, kept->text);
    kept->where = where;
  }
  snprintf(text, bytes, "%s", kept->text);
}

struct emu_place emu_line_of(const struct emu_block *block, const void *where) {
  struct emu_place place;
  emu_line(block->cluster->launch->image, where, place.text, sizeof place.text);
  return place;
}

bool emu_same_line(const struct emu_image *image, const void *where, const void *other) {
  char line[LINE_BYTES], other_line[LINE_BYTES];
  if (where == other) return true;
  emu_line(image, where, line, sizeof line);
  emu_line(image, other, other_line, sizeof other_line);
  return strcmp(line, "?") != 0 && strcmp(line, other_line) == 0;
}

/* --- Sentences */

/* As much of it as there is room for. */
__attribute__((format(printf, 3, 4))) static void append(char *text, size_t bytes, const char *format, ...) {
  size_t length = strlen(text);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + length, bytes - length, format, arguments);
  va_end(arguments);
}

static void append_block(char *text, size_t bytes, const struct emu_block *block) {
  struct emu_index grid = block->cluster->launch->grid, index = block->index;
  if (grid.y > 1 || grid.z > 1)
    append(text, bytes, "block (%u, %u, %u)", index.x, index.y, index.z);
  else
    append(text, bytes, "block %u", index.x);
}

void emu_sentence(struct emu_scheduler *scheduler, char message[EMU_MESSAGE_BYTES]) {
  const struct emu_launch *launch = scheduler->run->launch;
  const struct emu_thread *thread = scheduler->fault_thread;
  const void *where = scheduler->fault_where ? scheduler->fault_where : thread ? thread->where : NULL;
  message[0] = 0;
  if (where) {
    emu_line(launch->image, where, message, EMU_MESSAGE_BYTES);
    append(message, EMU_MESSAGE_BYTES, ": ");
  }
  append(message, EMU_MESSAGE_BYTES, "kernel %s", launch->kernel);
  if (thread) {
    append(message, EMU_MESSAGE_BYTES, ", ");
    append_block(message, EMU_MESSAGE_BYTES, thread->block);
    append(message, EMU_MESSAGE_BYTES, ", warp %u, thread %u", thread->index / EMU_WARP, thread->index);
  }
  append(message, EMU_MESSAGE_BYTES, ": %s", scheduler->fault);
}

/* --- Deadlock */

static bool is_same_wait(const struct emu_thread *a, const struct emu_thread *b) {
  return a->waiting == b->waiting && a->where == b->where && a->what == b->what && a->waits_for == b->waits_for &&
         a->waits_parity == b->waits_parity;
}

/* "warps 4 to 7 wait in mbarrier_wait at lessons/08_pipeline.cu(57) for ...": threads begin to end - 1 of the block. */
static void append_group(char *text, size_t bytes, const struct emu_block *block, unsigned begin, unsigned end) {
  const struct emu_thread *thread = &block->threads[begin];
  bool are_warps = begin % EMU_WARP == 0 && (end % EMU_WARP == 0 || end == block->thread_count);
  unsigned first = are_warps ? begin / EMU_WARP : begin, last = are_warps ? (end - 1) / EMU_WARP : end - 1;
  char what[512] = "";
  struct emu_place line = emu_line_of(block, thread->where);
  if (thread->waiting == EMU_AT_MBARRIER)
    emu_mbarrier_describe(thread, what, sizeof what);
  else if (thread->waiting != EMU_AT_WGMMA && thread->waiting != EMU_AT_STORES)
    emu_gates_describe(thread, what, sizeof what);

  append(text, bytes, "; ");
  if (block->cluster->block_count > 1) {
    append_block(text, bytes, block);
    append(text, bytes, ", ");
  }
  const char *kind = are_warps ? "warp" : "thread";
  if (first == last)
    append(text, bytes, "%s %u waits in %s at %s", kind, first, thread->what, line.text);
  else
    append(text, bytes, "%ss %u to %u wait in %s at %s", kind, first, last, thread->what, line.text);
  if (what[0]) append(text, bytes, " for %s", what);
}

void emu_deadlock(struct emu_cluster *cluster) {
  char text[EMU_MESSAGE_BYTES] = "";
  const struct emu_thread *one = NULL;
  unsigned ended = 0;
  for (unsigned rank = 0; rank < cluster->block_count; rank++) {
    const struct emu_block *block = cluster->blocks[rank];
    ended += block->threads_ended;
    for (unsigned begin = 0, end; begin < block->thread_count; begin = end) {
      for (end = begin + 1; end < block->thread_count && is_same_wait(&block->threads[begin], &block->threads[end]);) end++;
      if (block->threads[begin].waiting == EMU_ENDED) continue;
      if (!one) one = &block->threads[begin];
      append_group(text, sizeof text, block, begin, end);
    }
  }
  if (ended) append(text, sizeof text, "; %u threads have ended", ended);
  emu_fault(one, NULL, "nobody can ever go on%s", text);
}
