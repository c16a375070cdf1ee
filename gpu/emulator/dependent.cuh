/* Dependent launches: here one launch ends before the next begins. */
#pragma once

__device__ inline void wait_for_the_launch_before() {}
