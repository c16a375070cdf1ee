/* A kernel that cannot do without a stack, for the test that looks for such. */
extern "C" __global__ void stack(int *data, int count) {
  int local[64] = {};
  for (int i = 0; i < count; i++) local[data[i] & 63] += i;
  data[threadIdx.x] = local[data[threadIdx.x] & 63];
}
