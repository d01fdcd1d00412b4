package cloudscale

func (a *API) imageRoutes()    {}
func (a *API) balancerRoutes() {}
func (a *API) floatingRoutes() {}
func (a *API) userRoutes()     {}
