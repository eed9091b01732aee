// A stranger's verifier of a host log, on golang.org/x/mod/sumdb (note, tlog).
//
//	verify log DIRECTORY KEYS [OLD-CHECKPOINT]   checkpoint, every tile, every entry, consistency
//	verify proof FILE KEYS                       a tlog-proof
//	verify mldsa FILE                            Wycheproof's cases, against this program's ML-DSA
//
// KEYS has a verifier key a line, of types 1, 4 and 6; every one of them must have signed.
// sumdb's note knows type 1 alone, and its tile paths carry the height: both are supplied here.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type cosigner struct {
	name   string
	hash   uint32
	kind   byte
	public []byte
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }

func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) < 8 {
		return false
	}
	seconds := binary.BigEndian.Uint64(signature)
	if c.kind == 4 {
		message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", seconds, text)
		return ed25519.Verify(c.public, []byte(message), signature[8:])
	}
	origin, tree, err := parseTree(string(text))
	if err != nil {
		return false
	}
	var message bytes.Buffer
	message.WriteString("subtree/v1\n\x00")
	message.WriteByte(byte(len(c.name)))
	message.WriteString(c.name)
	message.Write(signature[:8])
	message.WriteByte(byte(len(origin)))
	message.WriteString(origin)
	binary.Write(&message, binary.BigEndian, [2]uint64{0, uint64(tree.N)})
	message.Write(tree.Hash[:])
	return isMLDSA44(c.public, message.Bytes(), nil, signature[8:])
}

func parseKey(text string) (note.Verifier, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("key: want three parts")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("key: not base64")
	}
	sum := sha256.Sum256([]byte(parts[0] + "\n" + string(key)))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, fmt.Errorf("key: name and id do not belong to it")
	}
	switch {
	case key[0] == 1:
		return note.NewVerifier(text)
	case key[0] == 4 && len(key) == 33, key[0] == 6 && len(key) == 1+publicSize:
		return cosigner{parts[0], hash, key[0], key[1:]}, nil
	}
	return nil, fmt.Errorf("key: type %d", key[0])
}

func parseTree(text string) (origin string, tree tlog.Tree, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return "", tree, fmt.Errorf("checkpoint: want three lines")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != lines[1] {
		return "", tree, fmt.Errorf("checkpoint: size")
	}
	hash, err := tlog.ParseHash(lines[2])
	return lines[0], tlog.Tree{N: size, Hash: hash}, err
}

// open checks a checkpoint: each of the keys must have signed it.
func open(message []byte, keysFile string) (tree tlog.Tree, err error) {
	data, err := os.ReadFile(keysFile)
	if err != nil {
		return tree, err
	}
	var keys []note.Verifier
	for _, line := range strings.Fields(string(data)) {
		key, err := parseKey(line)
		if err != nil {
			return tree, err
		}
		keys = append(keys, key)
	}
	signed, err := note.Open(message, note.VerifierList(keys...))
	if err != nil {
		return tree, err
	}
	if len(keys) < 2 || len(signed.Sigs) != len(keys) {
		return tree, fmt.Errorf("checkpoint: signed by %d of %d keys", len(signed.Sigs), len(keys))
	}
	_, tree, err = parseTree(signed.Text)
	return tree, err
}

type files struct{ top string }

func (f files) Height() int                     { return height }
func (f files) SaveTiles([]tlog.Tile, [][]byte) {}

func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		// tile/8/L/N here, tile/L/N there; sumdb calls entries "data".
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
		data, err := os.ReadFile(filepath.Join(f.top, path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// readEntries gives the leaves of a bundle of this width.
func (f files) readEntries(number int64, width int) (entries [][]byte, err error) {
	tile := tlog.Tile{H: height, L: -1, N: number, W: width}
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/data/", height), "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(f.top, path))
	for err == nil && len(data) > 0 {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("%s: torn", path)
		}
		size := 2 + int(binary.BigEndian.Uint16(data))
		entries, data = append(entries, data[2:size]), data[size:]
	}
	if err == nil && len(entries) != width {
		err = fmt.Errorf("%s: %d entries, not %d", path, len(entries), width)
	}
	return entries, err
}

func verifyLog(top, keysFile, oldFile string) error {
	message, err := os.ReadFile(filepath.Join(top, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := open(message, keysFile)
	if err != nil {
		return err
	}
	reader := tlog.TileHashReader(tree, files{top})
	for first := int64(0); first < tree.N; first += 256 {
		width := int(tree.N - first)
		if width > 256 {
			width = 256
		}
		entries, err := files{top}.readEntries(first/256, width)
		if err != nil {
			return err
		}
		var indexes []int64
		for at := range entries {
			indexes = append(indexes, tlog.StoredHashIndex(0, first+int64(at)))
		}
		hashes, err := reader.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for at, entry := range entries {
			if tlog.RecordHash(entry) != hashes[at] {
				return fmt.Errorf("leaf %d is not the one in its tile", first+int64(at))
			}
		}
	}
	for _, index := range []int64{0, tree.N / 3, tree.N / 2, tree.N - 1} {
		proof, err := tlog.ProveRecord(tree.N, index, reader)
		if err != nil {
			return err
		}
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, hashes[0]); err != nil {
			return err
		}
	}
	if oldFile == "" {
		fmt.Printf("log %d %s\n", tree.N, tree.Hash)
		return nil
	}
	if message, err = os.ReadFile(oldFile); err != nil {
		return err
	}
	old, err := open(message, keysFile)
	if err != nil {
		return err
	}
	proof, err := tlog.ProveTree(tree.N, old.N, reader)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return err
	}
	fmt.Printf("log %d %s continues %d\n", tree.N, tree.Hash, old.N)
	return nil
}

func verifyProof(file, keysFile string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, message, found := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return fmt.Errorf("not a tlog-proof with a leaf")
	}
	leaf, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	tree, err := open(message, keysFile)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(leaf)); err != nil {
		return err
	}
	fmt.Printf("leaf %d of %d\n", index, tree.N)
	return nil
}

func verifyVectors(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var vectors struct {
		Groups []struct {
			Public []byte
			Tests  []struct {
				Comment                     string
				Message, Context, Signature []byte
				IsValid                     bool `json:"is_valid"`
			}
		}
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		return err
	}
	count := 0
	for _, group := range vectors.Groups {
		for _, one := range group.Tests {
			holds := isMLDSA44(group.Public, one.Message, one.Context, one.Signature)
			if holds != one.IsValid {
				return fmt.Errorf("%s: judged %v", one.Comment, holds)
			}
			count++
		}
	}
	fmt.Printf("mldsa %d\n", count)
	return nil
}

func main() {
	arguments := append(os.Args[1:], "", "", "", "")
	var err error
	switch arguments[0] {
	case "log":
		err = verifyLog(arguments[1], arguments[2], arguments[3])
	case "proof":
		err = verifyProof(arguments[1], arguments[2])
	case "mldsa":
		err = verifyVectors(arguments[1])
	default:
		err = fmt.Errorf("log, proof or mldsa")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
