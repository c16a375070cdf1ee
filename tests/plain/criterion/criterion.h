/* As much of Criterion as test_threads.c and test_cache.c use, each test in a process of its own: Criterion lays out memory for its
 * processes in a way that ThreadSanitizer does not allow. For a test program of one source file. */
#ifndef PLAIN_CRITERION_H
#define PLAIN_CRITERION_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLAIN_TESTS = 64 };
static struct plain_test {
  const char *name;
  void (*run)(void);
} plain_tests[PLAIN_TESTS];
static int plain_count, plain_failed;

/* The function registers itself before main(). */
#define Test(suite, test, ...)                                                                                                   \
  static void suite##_##test(void);                                                                                              \
  __attribute__((constructor)) static void plain_##suite##_##test(void) {                                                        \
    plain_tests[plain_count++] = (struct plain_test){#suite "::" #test, suite##_##test};                                         \
  }                                                                                                                              \
  static void suite##_##test(void)

#define PLAIN_CHECK(condition, then, ...)                                                                                        \
  do {                                                                                                                           \
    if (!(condition)) {                                                                                                          \
      fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                            \
      fprintf(stderr, "" __VA_ARGS__);                                                                                           \
      fputc('\n', stderr);                                                                                                       \
      then;                                                                                                                      \
    }                                                                                                                            \
  } while (0)
#define cr_assert(condition, ...) PLAIN_CHECK(condition, exit(1), __VA_ARGS__)
#define cr_assert_eq(a, b, ...) PLAIN_CHECK((a) == (b), exit(1), __VA_ARGS__)
#define cr_assert_geq(a, b, ...) PLAIN_CHECK((a) >= (b), exit(1), __VA_ARGS__)
#define cr_assert_not_null(a, ...) PLAIN_CHECK((a) != NULL, exit(1), __VA_ARGS__)
#define cr_expect(condition, ...) PLAIN_CHECK(condition, plain_failed = 1, __VA_ARGS__)
#define cr_expect_eq(a, b, ...) PLAIN_CHECK((a) == (b), plain_failed = 1, __VA_ARGS__)
#define cr_expect_null(a, ...) PLAIN_CHECK((a) == NULL, plain_failed = 1, __VA_ARGS__)
#define cr_skip_test(...)                                                                                                        \
  do {                                                                                                                           \
    fprintf(stderr, "skipped: " __VA_ARGS__);                                                                                    \
    fputc('\n', stderr);                                                                                                         \
    exit(plain_failed);                                                                                                          \
  } while (0)

/* Given a number, runs that test; else starts itself for each. */
int main(int argc, char **argv) {
  if (argc > 1) {
    plain_tests[atoi(argv[1])].run();
    return plain_failed;
  }
  int failing = 0;
  for (int i = 0; i < plain_count; i++) {
    char number[16];
    snprintf(number, sizeof number, "%d", i);
    pid_t child = fork();
    if (child == 0) {
      execl(argv[0], argv[0], number, (char *)NULL);
      _exit(127);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
      fprintf(stderr, "[FAIL] %s: status 0x%x\n", plain_tests[i].name, (unsigned)status);
      failing++;
    }
  }
  printf("[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0\n", plain_count, plain_count - failing, failing);
  return failing != 0 || plain_count == 0;
}

#endif
