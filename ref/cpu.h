/* Which vector instructions this process uses. All paths give the same bits. */
#ifndef FG_CPU_H
#define FG_CPU_H

enum fg_isa { FG_ISA_PLAIN = 0, FG_ISA_AVX2 = 1, FG_ISA_AVX512 = 2 }; /* AVX2 with FMA and F16C; AVX-512 F, BW, VL, DQ */

/* The best that the machine has, or a lesser one that FG_ISA=plain|avx2|avx512 in the environment or fg_set_isa() asks for. */
enum fg_isa fg_isa(void);

/* For tests and benchmarks: from now on use `isa`. Returns 0, and changes nothing, if the machine does not have it. */
int fg_set_isa(enum fg_isa isa);

const char *fg_isa_name(enum fg_isa isa);

/* The processor's own name, as "AMD EPYC"; "unknown processor" where it has none to tell. */
enum { FG_CPU_NAME_BYTES = 49 };
void fg_cpu_name(char name[FG_CPU_NAME_BYTES]);

/* Threads that the process may run on. */
int fg_cpu_threads(void);

#endif
