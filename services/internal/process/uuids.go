package process

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// registerUUIDs has pgx write and read uuid.UUID and []uuid.UUID as their bytes.
// Without it they go through text (database/sql's Valuer and Scanner), which was
// 16 % of fan-out's processor time.
func registerUUIDs(m *pgtype.Map) {
	one := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	m.RegisterType(one)
	m.RegisterType(&pgtype.Type{
		Name: "_uuid", OID: pgtype.UUIDArrayOID,
		Codec: uuidsCodec{&pgtype.ArrayCodec{ElementType: one}},
	})
}

// uuidCodec is pgx's, with a short way for uuid.UUID.
type uuidCodec struct{ pgtype.UUIDCodec }

// PlanEncode is part of pgtype.Codec.
func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return encodeUUID{}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

// PlanScan is part of pgtype.Codec.
func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, into any) pgtype.ScanPlan {
	if _, ok := into.(*uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return scanUUID{}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, into)
}

type encodeUUID struct{}

func (encodeUUID) Encode(value any, buf []byte) ([]byte, error) {
	id := value.(uuid.UUID)
	return append(buf, id[:]...), nil
}

type scanUUID struct{}

func (scanUUID) Scan(src []byte, into any) error {
	if len(src) != len(uuid.UUID{}) { // NULL too
		return fmt.Errorf("a uuid has 16 bytes, not %d", len(src))
	}
	copy(into.(*uuid.UUID)[:], src)
	return nil
}

// uuidsCodec is pgx's for arrays, with a short way to write []uuid.UUID.
type uuidsCodec struct{ *pgtype.ArrayCodec }

// PlanEncode is part of pgtype.Codec.
func (c uuidsCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return encodeUUIDs{}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

type encodeUUIDs struct{}

// Encode writes PostgreSQL's binary form of a one-dimensional array: number of
// dimensions, whether it has NULLs, type of the elements, then length and lower
// bound; then each element with its length.
func (encodeUUIDs) Encode(value any, buf []byte) ([]byte, error) {
	ids := value.([]uuid.UUID)
	if ids == nil {
		return nil, nil // NULL
	}
	word := func(v int) { buf = binary.BigEndian.AppendUint32(buf, uint32(v)) }
	if len(ids) == 0 {
		word(0)
		word(0)
		word(pgtype.UUIDOID)
		return buf, nil
	}
	word(1)
	word(0)
	word(pgtype.UUIDOID)
	word(len(ids))
	word(1)
	for _, id := range ids {
		word(len(id))
		buf = append(buf, id[:]...)
	}
	return buf, nil
}
