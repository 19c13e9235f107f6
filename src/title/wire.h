// A Line among the fields of this library's formats.
#pragma once

#include "base/fields.h"
#include "title/statement.h"

namespace hf::title {

inline void write_line(FieldWriter& out, const Line& line) {
  out.bytes(line.position.incarnation.span());
  out.number(line.position.sequence.value);
  out.bytes(line.chain.span());
}

inline Line read_line(FieldReader& in) {
  Line line;
  line.position.incarnation = in.id<IncarnationId>();
  line.position.sequence = Sequence(in.number<uint64_t>());
  line.chain = in.id<Digest>();
  return line;
}

}  // namespace hf::title
