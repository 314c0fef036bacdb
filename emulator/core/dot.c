// SPDX-License-Identifier: MIT
/*
 * Dot products of int8. The codes of a strip come as vectors of 16 rows by 4 columns, which is the
 * shape that one VNNI instruction multiplies; AVX2 needs two steps and a widening. keys and values
 * are the same C three times, compiled for each instruction set.
 */
#include "emulator/core/dot.h"

#include <stddef.h>
#include <string.h>

#define QUAD 64			/* bytes of a vector of codes */

static inline float load_float(const uint8_t *p)
{
	float x;

	memcpy(&x, p, sizeof(x));
	return x;
}

static inline __attribute__((always_inline))
void accumulate(const int32_t sums[FLM_STRIP], int32_t correction, const float *scales,
		float a_scale, float acc[FLM_STRIP])
{
	int r;

	for (r = 0; r < FLM_STRIP; r++)
		acc[r] = acc[r] + ((float)(sums[r] - correction) * scales[r]) * a_scale;
}

static void strip_plain(const uint8_t *codes, uint32_t cols, int zero, const int8_t *a,
			const int32_t *a_sums, const uint8_t *a_scales,
			const float (*scales)[FLM_STRIP], float acc[FLM_STRIP])
{
	uint32_t col, g = 0, end;
	int r;

	for (col = 0; col < cols; g++) {
		int32_t sums[FLM_STRIP] = { 0 };

		end = cols - col < FLM_GROUP ? cols : col + FLM_GROUP;
		for (; col < end; col += 4, codes += QUAD, a += 4)
			for (r = 0; r < FLM_STRIP; r++)
				sums[r] += codes[4 * r] * a[0] + codes[4 * r + 1] * a[1] +
					   codes[4 * r + 2] * a[2] + codes[4 * r + 3] * a[3];
		accumulate(sums, zero * a_sums[g], scales[g], load_float(a_scales + 4 * g), acc);
	}
}

static inline __attribute__((always_inline))
int32_t dot_group(const int8_t *a, const int8_t *b, uint32_t n)
{
	int32_t sum = 0;
	uint32_t i;

	/* A constant count lets the compiler make vectors of it. */
	if (n == FLM_GROUP)
		for (i = 0; i < FLM_GROUP; i++)
			sum += (int16_t)(a[i] * b[i]);
	else
		for (i = 0; i < n; i++)
			sum += a[i] * b[i];
	return sum;
}

static inline __attribute__((always_inline))
void keys_body(const int8_t *a, const uint8_t *a_scales, const int8_t *b, uint64_t b_pitch,
	       const uint8_t *b_scales, uint64_t b_scale_pitch, uint32_t dim, uint32_t count,
	       float *out)
{
	uint32_t p, d, g;

	for (p = 0; p < count; p++, b += b_pitch, b_scales += b_scale_pitch) {
		float acc = 0.0f;

		for (d = 0, g = 0; d < dim; d += FLM_GROUP, g++) {
			int32_t sum = dot_group(a + d, b + d,
						dim - d < FLM_GROUP ? dim - d : FLM_GROUP);

			acc = acc + ((float)sum * load_float(b_scales + 4 * g)) *
				    load_float(a_scales + 4 * g);
		}
		out[p] = acc;
	}
}

static inline __attribute__((always_inline))
void values_body(const int8_t *a, const int8_t *b, uint64_t b_pitch, uint32_t count, uint32_t dim,
		 int32_t *sums)
{
	uint32_t p, d, i;

	memset(sums, 0, dim * sizeof(sums[0]));
	for (p = 0; p < count; p++, b += b_pitch) {
		int16_t x = a[p];

		for (d = 0; d + 16 <= dim; d += 16)
			for (i = 0; i < 16; i++)
				sums[d + i] += (int16_t)(x * b[d + i]);
		for (; d < dim; d++)
			sums[d] += x * b[d];
	}
}

static void keys_plain(const int8_t *a, const uint8_t *a_scales, const int8_t *b, uint64_t b_pitch,
		       const uint8_t *b_scales, uint64_t b_scale_pitch, uint32_t dim,
		       uint32_t count, float *out)
{
	keys_body(a, a_scales, b, b_pitch, b_scales, b_scale_pitch, dim, count, out);
}

static void values_plain(const int8_t *a, const int8_t *b, uint64_t b_pitch, uint32_t count,
			 uint32_t dim, int32_t *sums)
{
	values_body(a, b, b_pitch, count, dim, sums);
}

static const struct dot plain = { "plain", strip_plain, keys_plain, values_plain };

#ifdef __x86_64__
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define VNNI __attribute__((target("avx512f,avx512vnni")))

static inline int32_t load_quad(const int8_t *a)
{
	int32_t x;

	memcpy(&x, a, sizeof(x));
	return x;
}

/* 16 codes of 4 rows times 4 columns: two partial sums a row, which cannot leave 32 bits. */
AVX2 static inline __m256i multiply_avx2(const uint8_t *codes, __m256i a)
{
	__m256i w = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i_u *)codes));

	return _mm256_madd_epi16(w, a);
}

AVX2 static void strip_avx2(const uint8_t *codes, uint32_t cols, int zero, const int8_t *a,
			    const int32_t *a_sums, const uint8_t *a_scales,
			    const float (*scales)[FLM_STRIP], float acc[FLM_STRIP])
{
	uint32_t col, g = 0, end;
	int r;

	for (col = 0; col < cols; g++) {
		__m256i part[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(),
				    _mm256_setzero_si256(), _mm256_setzero_si256() };
		int32_t halves[2 * FLM_STRIP], sums[FLM_STRIP];

		end = cols - col < FLM_GROUP ? cols : col + FLM_GROUP;
		for (; col < end; col += 4, codes += QUAD, a += 4) {
			__m256i x = _mm256_cvtepi8_epi16(_mm_set1_epi32(load_quad(a)));

			for (r = 0; r < 4; r++)
				part[r] = _mm256_add_epi32(part[r],
							   multiply_avx2(codes + 16 * r, x));
		}
		for (r = 0; r < 4; r++)
			_mm256_storeu_si256((__m256i_u *)(halves + 8 * r), part[r]);
		for (r = 0; r < FLM_STRIP; r++)
			sums[r] = halves[2 * r] + halves[2 * r + 1];
		accumulate(sums, zero * a_sums[g], scales[g], load_float(a_scales + 4 * g), acc);
	}
}

AVX2 static void keys_avx2(const int8_t *a, const uint8_t *a_scales, const int8_t *b,
			   uint64_t b_pitch, const uint8_t *b_scales, uint64_t b_scale_pitch,
			   uint32_t dim, uint32_t count, float *out)
{
	keys_body(a, a_scales, b, b_pitch, b_scales, b_scale_pitch, dim, count, out);
}

AVX2 static void values_avx2(const int8_t *a, const int8_t *b, uint64_t b_pitch, uint32_t count,
			     uint32_t dim, int32_t *sums)
{
	values_body(a, b, b_pitch, count, dim, sums);
}

VNNI static void strip_vnni(const uint8_t *codes, uint32_t cols, int zero, const int8_t *a,
			    const int32_t *a_sums, const uint8_t *a_scales,
			    const float (*scales)[FLM_STRIP], float acc[FLM_STRIP])
{
	__m512 total = _mm512_loadu_ps(acc);
	uint32_t col, g = 0, end;

	for (col = 0; col < cols; g++) {
		__m512i even = _mm512_setzero_si512(), odd = even;
		__m512 sum;

		end = cols - col < FLM_GROUP ? cols : col + FLM_GROUP;
		/* Columns come in sixteens, so vectors come in pairs. */
		for (; col < end; col += 8, codes += 2 * QUAD, a += 8) {
			even = _mm512_dpbusd_epi32(even, _mm512_loadu_si512(codes),
						   _mm512_set1_epi32(load_quad(a)));
			odd = _mm512_dpbusd_epi32(odd, _mm512_loadu_si512(codes + QUAD),
						  _mm512_set1_epi32(load_quad(a + 4)));
		}
		sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_add_epi32(even, odd),
							  _mm512_set1_epi32(zero * a_sums[g])));
		sum = _mm512_mul_ps(_mm512_mul_ps(sum, _mm512_loadu_ps(scales[g])),
				    _mm512_set1_ps(load_float(a_scales + 4 * g)));
		total = _mm512_add_ps(total, sum);
	}
	_mm512_storeu_ps(acc, total);
}

static const struct dot avx2 = { "avx2", strip_avx2, keys_avx2, values_avx2 };
static const struct dot vnni = { "avx512vnni", strip_vnni, keys_avx2, values_avx2 };
#endif

const struct dot *dot_get(unsigned int n)
{
	const struct dot *found[4] = { &plain, NULL, NULL, NULL };

#ifdef __x86_64__
	unsigned int count = 1;

	if (__builtin_cpu_supports("avx2"))
		found[count++] = &avx2;
	if (count == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni"))
		found[count++] = &vnni;
#endif
	return n < 4 ? found[n] : NULL;
}
