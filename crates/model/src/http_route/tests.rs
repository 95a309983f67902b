//! Keys, limits of time, shares and paths as they are read.

use super::*;

#[test]
fn a_routes_key_reads_back_as_it_was_written() {
    for text in ["HTTPRoute/shop/cart", "GRPCRoute/shop/cart.v1", "VirtualService/shop/cart"] {
        assert_eq!(text.parse::<RouteKey>().unwrap().to_string(), text);
    }
}

#[test]
fn texts_that_are_no_key_of_a_route_are_refused() {
    for text in ["", "HTTPRoute", "HTTPRoute/shop", "shop/cart", "UDPRoute/shop/cart", "httproute/shop/cart"]
    {
        assert_eq!(text.parse::<RouteKey>(), Err(NameError::Route { value: text.into() }), "{text}");
    }
    for text in ["HTTPRoute//cart", "HTTPRoute/shop/", "HTTPRoute/shop/a/b"] {
        assert!(text.parse::<RouteKey>().is_err(), "{text}");
    }
}

#[test]
fn no_time_at_all_switches_a_limit_off() {
    assert_eq!(TimeLimit::from(Duration::ZERO), TimeLimit::Off);
    assert_eq!(TimeLimit::from(Duration::from_secs(1)).after(), Some(Duration::from_secs(1)));
    assert_eq!(TimeLimit::Off.after(), None);
    assert_eq!(TimeLimit::Unset.after(), None);
}

#[test]
fn a_share_is_at_most_all() {
    assert_eq!(Share::new(1, 2).map(|s| (s.parts(), s.whole())), Some((1, 2)));
    assert_eq!(Share::new(0, 100).map(Share::parts), Some(0));
    assert_eq!(Share::new(3, 2), None);
    assert_eq!(Share::new(0, 0), None);
}

#[test]
fn what_may_not_be_in_a_path_is_refused() {
    for (text, found) in [("/a?b", '?'), ("/a#b", '#'), ("/a b", ' '), ("/a\r\n", '\r'), ("/é", 'é')] {
        assert_eq!(text.parse::<PathText>(), Err(PathTextError { value: text.into(), found }), "{text}");
    }
    for text in ["", "/", "/a/b%20c", "a"] {
        assert_eq!(text.parse::<PathText>().unwrap().as_str(), text);
    }
}
