/* A matrix product whose operands may lie anywhere: rows of A by their addresses, B packed into panels of LANES columns. */
#ifndef MSEDGE_GEMM_H
#define MSEDGE_GEMM_H

#include "common.h"

#if defined(__AVX512F__)
enum { VECTOR = 16, HEIGHT = 12 };
#else
enum { VECTOR = 8, HEIGHT = 6 };
#endif
enum { LANES = 2 * VECTOR, DEPTH = 256 };

/* Floats that `columns` packed columns of `depth` rows take. */
static inline int64_t packed_size(int64_t depth, int64_t columns) { return (columns + LANES - 1) / LANES * LANES * depth; }

/* Pack rows[k][0 .. columns) for k < depth; rows[k] are contiguous. */
void pack_rows(float *packed, const float *const *rows, int64_t depth, int64_t columns);

/* Pack columns[j][0 .. depth) for j < count; columns[j] are contiguous. */
void pack_columns(float *packed, const float *const *columns, int64_t depth, int64_t count);

/* out[i][j] (row length `stride`) = or += sum over k of a[i][k * step] * packed B[k][j], for i < rows, j < columns. */
void multiply(float *out, int64_t stride, int add, const float *const *a, int64_t step, const float *packed, int64_t rows,
              int64_t columns, int64_t depth);

#endif
