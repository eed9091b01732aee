package main

// ML-DSA-44 verification (FIPS 204, algorithm 8), written from the standard for this test alone:
// Debian's Go has none. Slow and plain; nothing in it is secret.

import (
	"bytes"

	"golang.org/x/crypto/sha3"
)

const (
	q          = 8380417
	tau        = 39
	gamma1     = 1 << 17
	gamma2     = (q - 1) / 88
	beta       = 78
	omega      = 80
	rows       = 4 // k
	columns    = 4 // l
	publicSize = 1312
	sigSize    = 2420
)

type poly [256]int64

var zetas = computeZetas()

func computeZetas() (zetas [256]int64) {
	power := [256]int64{1}
	for i := 1; i < 256; i++ {
		power[i] = power[i-1] * 1753 % q
	}
	for i := range zetas {
		reversed := 0
		for bit := 0; bit < 8; bit++ {
			reversed |= i >> bit & 1 << (7 - bit)
		}
		zetas[i] = power[reversed]
	}
	return zetas
}

func mod(a int64) int64 {
	return ((a % q) + q) % q
}

func shake256(size int, parts ...[]byte) []byte {
	hash := sha3.NewShake256()
	for _, part := range parts {
		hash.Write(part)
	}
	out := make([]byte, size)
	hash.Read(out)
	return out
}

func ntt(w poly) poly {
	m := 0
	for length := 128; length >= 1; length /= 2 {
		for start := 0; start < 256; start += 2 * length {
			m++
			for j := start; j < start+length; j++ {
				t := zetas[m] * w[j+length] % q
				w[j+length] = mod(w[j] - t)
				w[j] = mod(w[j] + t)
			}
		}
	}
	return w
}

func inverseNTT(w poly) poly {
	m := 256
	for length := 1; length < 256; length *= 2 {
		for start := 0; start < 256; start += 2 * length {
			m--
			for j := start; j < start+length; j++ {
				t := w[j]
				w[j] = mod(t + w[j+length])
				w[j+length] = mod((w[j+length] - t) * zetas[m])
			}
		}
	}
	for j := range w {
		w[j] = w[j] * 8347681 % q
	}
	return w
}

// unpack reads 256 little-endian numbers of this many bits.
func unpack(data []byte, bits int) (out poly) {
	for i := range out {
		for bit := 0; bit < bits; bit++ {
			at := i*bits + bit
			out[i] |= int64(data[at/8]>>(at%8)&1) << bit
		}
	}
	return out
}

// expand is RejNTTPoly: one entry of the matrix, in the NTT domain.
func expand(rho []byte, column, row byte) (out poly) {
	hash := sha3.NewShake128()
	hash.Write(rho)
	hash.Write([]byte{column, row})
	var three [3]byte
	for i := 0; i < 256; {
		hash.Read(three[:])
		value := int64(three[0]) | int64(three[1])<<8 | int64(three[2]&0x7f)<<16
		if value < q {
			out[i] = value
			i++
		}
	}
	return out
}

func sampleInBall(seed []byte) (out poly) {
	hash := sha3.NewShake256()
	hash.Write(seed)
	var signs [8]byte
	hash.Read(signs[:])
	var one [1]byte
	for i := 256 - tau; i < 256; i++ {
		for {
			hash.Read(one[:])
			if int(one[0]) <= i {
				break
			}
		}
		j, at := one[0], i+tau-256
		out[i] = out[j]
		out[j] = 1 - 2*int64(signs[at/8]>>(at%8)&1)
	}
	return out
}

func unpackHints(data []byte) (out [rows]poly, ok bool) {
	index := 0
	for row := 0; row < rows; row++ {
		limit := int(data[omega+row])
		if limit < index || limit > omega {
			return out, false
		}
		for first := index; index < limit; index++ {
			if index > first && data[index-1] >= data[index] {
				return out, false
			}
			out[row][data[index]] = 1
		}
	}
	for ; index < omega; index++ {
		if data[index] != 0 {
			return out, false
		}
	}
	return out, true
}

func useHint(hint, r int64) int64 {
	r = mod(r)
	low := r % (2 * gamma2)
	if low > gamma2 {
		low -= 2 * gamma2
	}
	high := (r - low) / (2 * gamma2)
	if r-low == q-1 {
		high, low = 0, low-1
	}
	if hint == 0 {
		return high
	}
	if low > 0 {
		return (high + 1) % 44
	}
	return (high + 43) % 44
}

// isMLDSA44 says whether the signature is the key's over message and context.
func isMLDSA44(public, message, context, signature []byte) bool {
	if len(public) != publicSize || len(signature) != sigSize || len(context) > 255 {
		return false
	}
	challenge := signature[:32]
	hints, ok := unpackHints(signature[32+columns*576:])
	if !ok {
		return false
	}
	var z [columns]poly
	for column := range z {
		z[column] = unpack(signature[32+column*576:], 18)
		for i, value := range z[column] {
			value = gamma1 - value
			if value >= gamma1-beta || value <= beta-gamma1 {
				return false
			}
			z[column][i] = mod(value)
		}
		z[column] = ntt(z[column])
	}
	head := append([]byte{0, byte(len(context))}, context...)
	mu := shake256(64, shake256(64, public), head, message)
	c := ntt(sampleInBall(challenge))
	var high bytes.Buffer
	for row := 0; row < rows; row++ {
		t := unpack(public[32+row*320:], 10)
		for i := range t {
			t[i] = t[i] << 13 % q
		}
		t = ntt(t)
		var sum poly
		for column := 0; column < columns; column++ {
			a := expand(public[:32], byte(column), byte(row))
			for i := range sum {
				sum[i] = (sum[i] + a[i]*z[column][i]) % q
			}
		}
		for i := range sum {
			sum[i] = mod(sum[i] - mod(c[i])*mod(t[i])%q)
		}
		sum = inverseNTT(sum)
		packed := make([]byte, 192)
		for i := range sum {
			value := useHint(hints[row][i], sum[i])
			for bit := 0; bit < 6; bit++ {
				packed[(i*6+bit)/8] |= byte(value>>bit&1) << ((i*6 + bit) % 8)
			}
		}
		high.Write(packed)
	}
	return bytes.Equal(challenge, shake256(32, mu, high.Bytes()))
}
