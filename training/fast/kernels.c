/* The loops of training that PyTorch has no fast ones for on a processor. compiler.py compiles them,
   once for each type of the images; kernels.py calls them with tensors.

   Images are channels-last: pixels x channels. Sums are built in float32 over a few pixels, those of
   a thread in float64; each thread has a row of the result to itself, which makes them repeatable. */

#ifdef __AVX512F__
/* GCC takes half of a register for what it vectorises, unless told otherwise. */
#pragma GCC target("prefer-vector-width=512")
#endif

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef BFLOAT16
typedef uint16_t scalar_t;

static inline float to_float(scalar_t value)
{
    union { uint32_t bits; float value; } as = {(uint32_t)value << 16};
    return as.value;
}

/* To the nearest, halfway to even. */
static inline scalar_t from_float(float value)
{
    union { float value; uint32_t bits; } as = {value};
    uint32_t rounded = (as.bits + 0x7fff + (as.bits >> 16 & 1)) >> 16;
    return value == value ? rounded : 0x7fc0;
}
#else
typedef float scalar_t;
static inline float to_float(scalar_t value) { return value; }
static inline scalar_t from_float(float value) { return value; }
#endif

enum { BLOCK = 64, LINES = 8 }; /* pixels, or lines of an image, that are summed in float32 */

/* As many channels as a register holds. */
#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float floats __attribute__((vector_size(4 * LANES)));

static inline float relu6(float value)
{
    value = value < 0 ? 0 : value;
    return value > 6 ? 6 : value;
}

static inline float relu6_grad(float gradient, float scaled)
{
    return scaled > 0 && scaled < 6 ? gradient : 0;
}

/* totals: threads x 2 x channels, zero. Of each channel the sum, and the sum of squares. */
void sums(const scalar_t *restrict images, long pixels, long channels, long threads, double *totals)
{
#pragma omp parallel num_threads(threads)
    {
        double *restrict total = totals + omp_get_thread_num() * 2 * channels;
        float *restrict sum = malloc(2 * channels * sizeof(float));
        float *restrict squares = sum + channels;
#pragma omp for schedule(static)
        for (long start = 0; start < pixels; start += BLOCK) {
            long end = start + BLOCK < pixels ? start + BLOCK : pixels;
            memset(sum, 0, 2 * channels * sizeof(float));
            for (long pixel = start; pixel < end; pixel++) {
                const scalar_t *restrict image = images + pixel * channels;
                for (long c = 0; c < channels; c++) {
                    float value = to_float(image[c]);
                    sum[c] += value;
                    squares[c] += value * value;
                }
            }
            for (long c = 0; c < 2 * channels; c++)
                total[c] += sum[c];
        }
        free(sum);
    }
}

/* output = relu6(images scale + shift) */
void scaled(const scalar_t *restrict images, long pixels, long channels, long threads,
            const float *restrict scale, const float *restrict shift, scalar_t *restrict output)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long pixel = 0; pixel < pixels; pixel++) {
        const scalar_t *restrict image = images + pixel * channels;
        scalar_t *restrict out = output + pixel * channels;
        for (long c = 0; c < channels; c++)
            out[c] = from_float(relu6(to_float(image[c]) * scale[c] + shift[c]));
    }
}

/* totals: threads x 2 x channels, zero. With g the gradient where ReLU6 lets it through: of each
   channel the sum of g, and of g times the image. */
void gradient_sums(const scalar_t *restrict images, long pixels, long channels, long threads,
                   const float *restrict scale, const float *restrict shift,
                   const scalar_t *restrict gradients, double *totals)
{
#pragma omp parallel num_threads(threads)
    {
        double *restrict total = totals + omp_get_thread_num() * 2 * channels;
        float *restrict sum = malloc(2 * channels * sizeof(float));
        float *restrict products = sum + channels;
#pragma omp for schedule(static)
        for (long start = 0; start < pixels; start += BLOCK) {
            long end = start + BLOCK < pixels ? start + BLOCK : pixels;
            memset(sum, 0, 2 * channels * sizeof(float));
            for (long pixel = start; pixel < end; pixel++) {
                const scalar_t *restrict image = images + pixel * channels;
                const scalar_t *restrict gradient = gradients + pixel * channels;
                for (long c = 0; c < channels; c++) {
                    float value = to_float(image[c]);
                    float g = relu6_grad(to_float(gradient[c]), value * scale[c] + shift[c]);
                    sum[c] += g;
                    products[c] += g * value;
                }
            }
            for (long c = 0; c < 2 * channels; c++)
                total[c] += sum[c];
        }
        free(sum);
    }
}

/* output = g scale + images factor + offset */
void scaled_gradient(const scalar_t *restrict images, long pixels, long channels, long threads,
                     const float *restrict scale, const float *restrict shift,
                     const scalar_t *restrict gradients, const float *restrict factor,
                     const float *restrict offset, scalar_t *restrict output)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long pixel = 0; pixel < pixels; pixel++) {
        const scalar_t *restrict image = images + pixel * channels;
        const scalar_t *restrict gradient = gradients + pixel * channels;
        scalar_t *restrict out = output + pixel * channels;
        for (long c = 0; c < channels; c++) {
            float value = to_float(image[c]);
            float g = relu6_grad(to_float(gradient[c]), value * scale[c] + shift[c]);
            out[c] = from_float(g * scale[c] + value * factor[c] + offset[c]);
        }
    }
}

/* lanes: how many channels from there on; LANES but for the last ones. */
static inline floats load(const scalar_t *from, long lanes)
{
    floats values = {0};
#ifdef BFLOAT16
    scalar_t given[LANES] = {0};
    memcpy(given, from, lanes * sizeof(scalar_t));
    for (long lane = 0; lane < LANES; lane++)
        values[lane] = to_float(given[lane]);
#else
    memcpy(&values, from, lanes * sizeof(scalar_t));
#endif
    return values;
}

/* One image and `lanes` of its channels, lines first to end of the output.
   lines: 3 x (width + 2), with zeros at both ends; keeps line y of the image in y modulo 3. */
static inline void add_to_weight(const scalar_t *restrict image, long height, long width,
                                 long channels, long stride_h, long stride_w,
                                 const scalar_t *restrict gradients, long out_width, long first,
                                 long end, floats *restrict lines, long lanes,
                                 double *restrict total)
{
    floats sum[9] = {{0}};
    long padded = width + 2, next = first * stride_h - 1;
    for (long line = first; line < end; line++) {
        long top = line * stride_h - 1;
        for (next = next < top ? top : next; next < top + 3; next++) {
            floats *restrict to = lines + (next + 3) % 3 * padded + 1;
            for (long x = 0; x < width; x++)
                to[x] = next < 0 || next >= height
                            ? (floats){0}
                            : load(image + (next * width + x) * channels, lanes);
        }
        const floats *above = lines + (top + 3) % 3 * padded;
        const floats *level = lines + (top + 4) % 3 * padded;
        const floats *below = lines + (top + 5) % 3 * padded;
        for (long x = 0; x < out_width; x++) {
            floats g = load(gradients + (line * out_width + x) * channels, lanes);
            for (long tap = 0; tap < 3; tap++) {
                sum[tap] += g * above[x * stride_w + tap];
                sum[3 + tap] += g * level[x * stride_w + tap];
                sum[6 + tap] += g * below[x * stride_w + tap];
            }
        }
    }
    for (long tap = 0; tap < 9; tap++)
        for (long lane = 0; lane < lanes; lane++)
            total[tap * channels + lane] += sum[tap][lane];
}

/* Of a depthwise 3x3 convolution with padding 1, what each weight changes.
   totals: threads x 9 x channels, zero; gradients: of the output, out_height x out_width. */
void depthwise_to_weight(const scalar_t *restrict images, long batch, long height, long width,
                         long channels, long stride_h, long stride_w,
                         const scalar_t *restrict gradients, long out_height, long out_width,
                         long threads, double *totals)
{
    long parts = (out_height + LINES - 1) / LINES;
#pragma omp parallel num_threads(threads)
    {
        double *total = totals + omp_get_thread_num() * 9 * channels;
        size_t size = 3 * (width + 2) * sizeof(floats);
        floats *lines = aligned_alloc(sizeof(floats), size);
        memset(lines, 0, size);
#pragma omp for schedule(static)
        for (long part = 0; part < batch * parts; part++) {
            long index = part / parts, first = part % parts * LINES;
            long end = first + LINES < out_height ? first + LINES : out_height;
            const scalar_t *image = images + index * height * width * channels;
            const scalar_t *gradient = gradients + index * out_height * out_width * channels;
            long c = 0;
            for (; c + LANES <= channels; c += LANES)
                add_to_weight(image + c, height, width, channels, stride_h, stride_w, gradient + c,
                              out_width, first, end, lines, LANES, total + c);
            if (c < channels)
                add_to_weight(image + c, height, width, channels, stride_h, stride_w, gradient + c,
                              out_width, first, end, lines, channels - c, total + c);
        }
        free(lines);
    }
}

/* The first row of a convolution's output that depends on a row of its input; likewise columns. */
static inline long first_output(long input, long stride)
{
    return input < 1 ? 0 : (input + stride - 2) / stride;
}

/* Of the same convolution, what its images change; weight: 9 x channels. */
void depthwise_to_images(const scalar_t *restrict gradients, long batch, long height, long width,
                         long channels, long stride_h, long stride_w, const float *restrict weight,
                         long out_height, long out_width, long threads,
                         scalar_t *restrict output)
{
#pragma omp parallel num_threads(threads)
    {
        float *restrict sum = malloc(channels * sizeof(float));
#pragma omp for schedule(static)
        for (long line = 0; line < batch * height; line++) {
            long image = line / height, row = line % height;
            for (long column = 0; column < width; column++) {
                memset(sum, 0, channels * sizeof(float));
                for (long y = first_output(row, stride_h);
                     y < out_height && y * stride_h <= row + 1; y++)
                    for (long x = first_output(column, stride_w);
                         x < out_width && x * stride_w <= column + 1; x++) {
                        const scalar_t *restrict gradient =
                            gradients +
                            ((image * out_height + y) * out_width + x) * channels;
                        long tap = (row + 1 - y * stride_h) * 3 + column + 1 - x * stride_w;
                        const float *restrict by = weight + tap * channels;
                        for (long c = 0; c < channels; c++)
                            sum[c] += to_float(gradient[c]) * by[c];
                    }
                scalar_t *restrict out = output + (line * width + column) * channels;
                for (long c = 0; c < channels; c++)
                    out[c] = from_float(sum[c]);
            }
        }
        free(sum);
    }
}
