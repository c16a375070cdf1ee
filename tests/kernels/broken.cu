/* A kernel that does not compile. */
extern "C" __global__ void broken(float *to) {
  to[threadIdx.x] = not_declared;
  __syncthreads();
}
