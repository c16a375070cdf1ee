/* The exercises of the lessons' pages: a mistake to make in the lesson's kernel, as a diff between fences, and behind it, indented, what
 * the emulator says then. A page with exercises has the command for it after "## Trap". */
#ifndef EXERCISES_H
#define EXERCISES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Or the kernel as it is: the first of its lesson. */
struct exercise {
  char lesson[32]; /* "06_wgmma" */
  char source[64]; /* of its kernel: "lessons/06_wgmma.cu" */
  int number;      /* in its page, from 1; 0: as it is */
  char title[96];  /* "The fence that is missing": of several diffs, of which it is the mistake */
  char command[256];
  char *kernel; /* the source, with the mistake */
  char *words;  /* of the emulator, blanks collapsed; "..." stands for any. NULL: as it is */
};

/* All of the tree at `root`, the same at each call, lesson by lesson, and how many. Pages that are not as said above end the process with a sentence. */
const struct exercise *exercises_read(const char *root, int *count);
/* "06_wgmma 2: The fence that is missing", in a buffer of its own. */
const char *exercise_name(const struct exercise *exercise);

/* What a GPU multiplies with each: first what the command of the page has, then two that fill a GPU with blocks and send rings round often,
 * one off all tiles and one whose blocks of K are a multiple of the stages. */
enum { EXERCISE_PROBLEMS = 3 };
struct exercise_problem {
  char level[32];
  int64_t m, n, k;
  int block_m, block_n, cluster, blocks; /* 0: as the library plans */
  bool has_bf16;                         /* D; else it has FP32 */
};
struct exercise_problem exercise_problem(const struct exercise *exercise, int number);

/* Whether the file, what plant_exercises printed, has a line of the exercise's lesson: it was tried on a GPU. */
bool exercise_is_tried(const char *file, const struct exercise *exercise);
/* Markdown, from what a GPU did, as plant_exercises printed it into the file at `golden`. */
void exercises_print_table(FILE *out, const char *root, const char *golden);

/* Runs of blanks become one. */
char *collapse(char *text);

#endif
