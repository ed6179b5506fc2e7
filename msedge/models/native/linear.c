/* Linear layers: [rows, in] by a weight [out, in], and their gradients. */
#include <string.h>

#include "gemm.h"

enum { FORWARD_BLOCK = 8 * HEIGHT, BACKWARD_BLOCK = 1024 };

struct linear {
    const float *x, *weight, *bias, *dy;
    float *y, *dx, *dweight, *dbias, *packed, *parts; /* `parts`: [blocks, out, in], gradients by the weight */
    int64_t rows, in, out, block, blocks;
};

static int64_t many_rows(const struct linear *l, int64_t first) {
    return l->rows - first < l->block ? l->rows - first : l->block;
}

/* Cut the rows into blocks of at most `most`, but into four at least. */
static void cut(struct linear *l, int64_t most) {
    int64_t part = ((l->rows + 3) / 4 + HEIGHT - 1) / HEIGHT * HEIGHT;
    l->block = part > most ? most : part;
    l->blocks = (l->rows + l->block - 1) / l->block;
}

static void pack_transposed_piece(void *arguments, int64_t piece) {
    struct linear *l = arguments;
    int64_t first = piece * LANES, many = l->out - first < LANES ? l->out - first : LANES;
    const float *columns[LANES];
    for (int64_t j = 0; j < many; j++) columns[j] = l->weight + (first + j) * l->in;
    pack_columns(l->packed + first * l->in, columns, l->in, many);
}

static void forward_piece(void *arguments, int64_t piece) {
    struct linear *l = arguments;
    int64_t first = piece * l->block, many = many_rows(l, first);
    const float *lines[FORWARD_BLOCK];
    for (int64_t i = 0; i < many; i++) lines[i] = l->x + (first + i) * l->in;
    float *y = l->y + first * l->out;
    if (l->bias)
        for (int64_t i = 0; i < many; i++) memcpy(y + i * l->out, l->bias, (size_t)l->out * sizeof(float));
    multiply(y, l->out, l->bias != 0, lines, 1, l->packed, many, l->out, l->in);
}

static void forward(struct linear l) {
    cut(&l, FORWARD_BLOCK);
    l.packed = scratch(PACKED, packed_size(l.in, l.out));
    run_pieces(pack_transposed_piece, &l, (l.out + LANES - 1) / LANES);
    run_pieces(forward_piece, &l, l.blocks);
}

static void pack_piece(void *arguments, int64_t piece) {
    struct linear *l = arguments;
    int64_t first = piece * LANES, many = l->in - first < LANES ? l->in - first : LANES;
    const float **rows = (const float **)scratch(LINES, 2 * l->out);
    for (int64_t k = 0; k < l->out; k++) rows[k] = l->weight + k * l->in + first;
    pack_rows(l->packed + first * l->out, rows, l->out, many);
}

/* A block of rows: its part of dx, and what it adds to the gradient by the weight. */
static void backward_piece(void *arguments, int64_t piece) {
    struct linear *l = arguments;
    int64_t first = piece * l->block, many = many_rows(l, first), most = l->out > many ? l->out : many;
    const float *dy = l->dy + first * l->out, **lines = (const float **)scratch(LINES, 2 * most);
    for (int64_t i = 0; i < many; i++) lines[i] = dy + i * l->out;
    multiply(l->dx + first * l->in, l->in, 0, lines, 1, l->packed, many, l->in, l->out);
    float *packed = scratch(PLANES, packed_size(many, l->in));
    for (int64_t k = 0; k < many; k++) lines[k] = l->x + (first + k) * l->in;
    pack_rows(packed, lines, many, l->in);
    for (int64_t i = 0; i < l->out; i++) lines[i] = dy + i;
    multiply(l->parts + piece * l->out * l->in, l->in, 0, lines, l->out, packed, l->out, l->in, many);
}

static void add_parts_piece(void *arguments, int64_t row) {
    struct linear *l = arguments;
    float *sum = l->dweight + row * l->in;
    memcpy(sum, l->parts + row * l->in, (size_t)l->in * sizeof(float));
    for (int64_t block = 1; block < l->blocks; block++) {
        const float *part = l->parts + (block * l->out + row) * l->in;
#pragma omp simd
        for (int64_t i = 0; i < l->in; i++) sum[i] += part[i];
    }
}

static void backward(struct linear l) {
    cut(&l, BACKWARD_BLOCK);
    l.packed = scratch(PACKED, packed_size(l.out, l.in));
    l.parts = scratch(PARTS, l.blocks * l.out * l.in);
    run_pieces(pack_piece, &l, (l.in + LANES - 1) / LANES);
    run_pieces(backward_piece, &l, l.blocks);
    run_pieces(add_parts_piece, &l, l.out);
    if (l.dbias) sum_rows(l.dy, l.dbias, l.rows, l.out);
}

#define SIZES .rows = shapes[0][0], .in = shapes[0][1], .out = shapes[1][0]

/* (x [rows, in], weight [out, in]) to x weight^T [rows, out]. */
KERNEL(linear) {
    forward((struct linear){.x = data[0], .weight = data[1], .y = data[2], SIZES});
    DONE;
}

/* (x, weight, bias [out]) to x weight^T + bias. */
KERNEL(linear_bias) {
    forward((struct linear){.x = data[0], .weight = data[1], .bias = data[2], .y = data[3], SIZES});
    DONE;
}

/* (x, weight, dy [rows, out]) to (dx, dweight). */
KERNEL(linear_gradient) {
    backward((struct linear){.x = data[0], .weight = data[1], .dy = data[2], .dx = data[3], .dweight = data[4], SIZES});
    DONE;
}

/* (x, weight, dy, bias) to (dx, dweight, dbias). */
KERNEL(linear_bias_gradient) {
    backward((struct linear){.x = data[0], .weight = data[1], .dy = data[2], .dx = data[4], .dweight = data[5],
                             .dbias = data[6], SIZES});
    DONE;
}
