#include "control/http/router.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

Router example() {
  auto echo = [](const Request& request) -> Result<Response> {
    sys::JsonArray captures;
    for (const std::string& capture : request.captures) captures.emplace_back(capture);
    return Response::json(captures);
  };
  return Router({{Method::kGet, "/v1/vms", Role::kReader, echo},
                 {Method::kGet, "/v1/vms/{vm}", Role::kReader, echo},
                 {Method::kPost, "/v1/vms/{vm}/disks/{disk}", Role::kContributor, echo},
                 {Method::kGet, "/v1/fails", Role::kReader, [](const Request&) -> Result<Response> {
                    return Error{
                        .code = ErrorCode::kNoSpace, .cause = "c", .effect = "e", .mend = "m"};
                  }}});
}

Request get(std::string path) {
  Request request;
  request.path = std::move(path);
  return request;
}

TEST(Router, finds_the_route_and_what_stands_for_its_names) {
  Request request = get("/v1/vms/a/disks/b");
  request.method = Method::kPost;
  request.role = Role::kOwner;
  Response response = example().handle(request);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(sys::to_text(response.body), R"(["a","b"])");
}

TEST(Router, tells_an_unknown_path_from_an_unknown_method) {
  EXPECT_EQ(example().handle(get("/v1/nothing")).status, 404);
  EXPECT_EQ(example().handle(get("/v1/vms/")).status, 404);
  EXPECT_EQ(example().handle(get("")).status, 404);
  EXPECT_EQ(example().handle(get("v1/vms")).status, 404);
  Request request = get("/v1/vms");
  request.method = Method::kDelete;
  EXPECT_EQ(example().handle(request).status, 405);
}

TEST(Router, refuses_a_role_that_is_too_low) {
  Request request = get("/v1/vms/a/disks/b");
  request.method = Method::kPost;
  request.role = Role::kOperator;
  EXPECT_EQ(example().handle(request).status, 403);
}

TEST(Router, tells_what_it_refused_of_what_somebody_wanted_done) {
  std::vector<std::string> told;
  auto fails = [](const Request&) -> Result<Response> {
    return Error{.code = ErrorCode::kConflict, .cause = "it runs"};
  };
  const Router router({{Method::kPost, "/v1/vms/{vm}/start", Role::kOperator, fails},
                       {Method::kGet, "/v1/vms/{vm}", Role::kReader, fails}},
                      [&](const Request& request, const Error& error) {
                        told.push_back(request.captures.at(0) + ": " + error.cause);
                      });
  Request request = get("/v1/vms/a/start");
  request.method = Method::kPost;
  router.handle(request);
  request.role = Role::kOwner;
  router.handle(request);
  router.handle(get("/v1/vms/a"));
  EXPECT_EQ(told, (std::vector<std::string>{"a: this needs the role Operator", "a: it runs"}));
}

TEST(Router, an_error_keeps_its_three_parts_and_gets_its_status) {
  Response response = example().handle(get("/v1/fails"));
  EXPECT_EQ(response.status, 507);
  const sys::JsonObject& error = response.body.as_object().at("error").as_object();
  EXPECT_EQ(error.at("cause").as_string(), "c");
  EXPECT_EQ(error.at("effect").as_string(), "e");
  EXPECT_EQ(error.at("mend").as_string(), "m");
}

TEST(Target, is_taken_apart_and_decoded) {
  Request request;
  ASSERT_TRUE(parse_target("/v1/vms/my%20vm?wait_ms=10&x=%41&flag", request).ok());
  EXPECT_EQ(request.path, "/v1/vms/my vm");
  EXPECT_EQ(request.query_or("x", ""), "A");
  EXPECT_EQ(request.query_or("flag", "none"), "");
  EXPECT_EQ(*request.query_u64_or("wait_ms", 0), 10U);
  EXPECT_FALSE(request.query_u64_or("x", 0).ok());
}

TEST(Target, bad_percent_encoding_is_refused) {
  Request request;
  EXPECT_FALSE(parse_target("/v1/%4", request).ok());
  EXPECT_FALSE(parse_target("/v1/%zz", request).ok());
  EXPECT_FALSE(parse_target("/v1/a%", request).ok());
}

}  // namespace
}  // namespace hf::control
