// Reads what we wrote with other people's code: golang.org/x/mod/sumdb/{note,tlog} and
// github.com/transparency-dev/merkle. A question comes as JSON on standard input, the answer goes out as JSON.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Folder      string        // static tiles, or the address that serves them; empty when only Cases are asked
	Token       string        // to be sent to that address
	Vkey        string        // the log's verifier key
	Every       int64         // prove every so many-th entry
	Consistency []consistency // proofs of ours from older sizes
	Inclusion   []inclusion   // proofs of ours
	Cases       []judged      // proofs to be judged, right or wrong
}

type consistency struct {
	Old   int64
	Root  []byte
	Proof [][]byte
}

type inclusion struct {
	Index int64
	Proof [][]byte
}

type judged struct {
	Kind       string // "inclusion" or "consistency"
	Index, Old uint64
	Size       uint64
	Leaf, Root []byte
	OldRoot    []byte
	Proof      [][]byte
}

type answer struct {
	Size    int64
	Entries int64
	Valid   []bool
}

// files reads tiles as tlog-tiles lays them out: x/mod's path has the tile's height in it, the standard's has not.
type files string

func (f files) Height() int                         { return 8 }
func (f files) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := get(string(f), path)
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

var token string

// get reads one of the log's files, from a folder or over HTTP.
func get(place, path string) ([]byte, error) {
	if !strings.HasPrefix(place, "http://") {
		return os.ReadFile(filepath.Join(place, path))
	}
	request, err := http.NewRequest("GET", place+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<25))
	if err == nil && response.StatusCode != 200 {
		err = fmt.Errorf("%s: %s: %s", path, response.Status, data)
	}
	return data, err
}

func hashOf(data []byte) (h tlog.Hash) {
	copy(h[:], data)
	return h
}

func hashesOf(list [][]byte) (out []tlog.Hash) {
	for _, one := range list {
		out = append(out, hashOf(one))
	}
	return out
}

func bundle(folder string, n, size int64) ([][]byte, error) {
	width := min(size-n*256, 256)
	tile := tlog.Tile{H: 8, L: -1, N: n, W: int(width)}
	path := strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1)
	data, err := get(folder, path)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(data) > 0 {
		length := int(binary.BigEndian.Uint16(data))
		entries = append(entries, data[2:2+length])
		data = data[2+length:]
	}
	if int64(len(entries)) != width {
		return nil, fmt.Errorf("bundle %d has %d entries", n, len(entries))
	}
	return entries, nil
}

func read(q question) (answer, error) {
	text, err := get(q.Folder, "checkpoint")
	if err != nil {
		return answer{}, err
	}
	verifier, err := note.NewVerifier(q.Vkey)
	if err != nil {
		return answer{}, err
	}
	opened, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return answer{}, err
	}
	var size int64
	var encoded string
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return answer{}, fmt.Errorf("not a checkpoint: %q", opened.Text)
	}
	if _, err := fmt.Sscan(lines[1], &size); err != nil {
		return answer{}, err
	}
	encoded = lines[2]
	root, err := tlog.ParseHash(encoded)
	if err != nil {
		return answer{}, err
	}
	tree := tlog.Tree{N: size, Hash: root}
	reader := tlog.TileHashReader(tree, files(q.Folder))
	computed, err := tlog.TreeHash(size, reader)
	if err != nil {
		return answer{}, err
	}
	if computed != root {
		return answer{}, fmt.Errorf("the tiles lead to another root")
	}
	var proven int64
	for n := int64(0); n*256 < size; n++ {
		entries, err := bundle(q.Folder, n, size)
		if err != nil {
			return answer{}, err
		}
		for at, entry := range entries {
			index := n*256 + int64(at)
			if !bytes.HasPrefix(entry, []byte(fmt.Sprintf(`{"seq":%d,`, index))) {
				return answer{}, fmt.Errorf("entry %d is %q", index, entry)
			}
			if index%q.Every != 0 && index != size-1 {
				continue
			}
			path, err := tlog.ProveRecord(size, index, reader)
			if err != nil {
				return answer{}, err
			}
			if err := tlog.CheckRecord(path, size, root, index, tlog.RecordHash(entry)); err != nil {
				return answer{}, fmt.Errorf("entry %d: %v", index, err)
			}
			proven++
		}
	}
	for _, one := range q.Inclusion {
		entries, err := bundle(q.Folder, one.Index/256, size)
		if err != nil {
			return answer{}, err
		}
		leaf := tlog.RecordHash(entries[one.Index%256])
		if err := tlog.CheckRecord(hashesOf(one.Proof), size, root, one.Index, leaf); err != nil {
			return answer{}, fmt.Errorf("our proof of entry %d: %v", one.Index, err)
		}
	}
	for _, one := range q.Consistency {
		if err := tlog.CheckTree(hashesOf(one.Proof), size, root, one.Old, hashOf(one.Root)); err != nil {
			return answer{}, fmt.Errorf("our proof from size %d: %v", one.Old, err)
		}
	}
	return answer{Size: size, Entries: proven}, nil
}

func judge(one judged) bool {
	if one.Kind == "inclusion" {
		return proof.VerifyInclusion(rfc6962.DefaultHasher, one.Index, one.Size, one.Leaf, one.Proof, one.Root) == nil
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, one.Old, one.Size, one.Proof, one.OldRoot, one.Root) == nil
}

func main() {
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	token = q.Token
	var found answer
	if q.Folder != "" {
		var err error
		if found, err = read(q); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	for _, one := range q.Cases {
		found.Valid = append(found.Valid, judge(one))
	}
	json.NewEncoder(os.Stdout).Encode(found)
}
