package plan

// Shard returns the placement group of a slot when each group takes at most
// limit members. Slots are reused from the lowest, so groups stay full.
func Shard(slot, limit int) int {
	if limit <= 0 {
		return 0
	}
	return slot / limit
}
