#include "keeper_protocol/control.h"

namespace hf::keeper_protocol {

Result<Question> decode_question(std::string_view line) {
  return sys::decode_operation<Question>(
      TRY(sys::parse_json_object(line, {.bytes_max = kQuestionBytesMax,
                                        .depth_max = kDepthMax,
                                        .duplicates = sys::JsonDuplicates::kRefuse})));
}

sys::JsonObject encode_answer(sys::JsonObject members) {
  members["ok"] = true;
  return members;
}

std::string encode_refusal(const Error& error) {
  return sys::to_text(sys::JsonObject{{"ok", false}, {"error", sys::error_to_json(error)}});
}

Result<sys::JsonObject> decode_answer(std::string_view line) {
  sys::JsonObject answer = TRY(sys::parse_json_object(line, {.bytes_max = kAnswerBytesMax}));
  const bool ok = TRY(sys::get_bool(answer, "ok"));
  if (!ok) return sys::error_from_json(*TRY(sys::get_object(answer, "error")));
  answer.erase("ok");
  return answer;
}

}  // namespace hf::keeper_protocol
